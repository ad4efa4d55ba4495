"""A stage that is asked to stop by a signal finishes its step and saves; asked twice, it stops at once.

Ctrl-C stops it, and SIGTERM and SIGUSR1, which batch systems send before the time is over.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from attcli import ranks
from attcli.errors import SignalledError
from attcli.ranks import Ranks
from attcli.runtime import SIGNALS


class Stop:
    """Whether somebody asked this process to stop, or another one that shares its work."""

    def __init__(self, among: Ranks) -> None:
        self._among = among
        self.signal: int | None = None

    @property
    def asked(self) -> bool:
        """Whether to stop; the other ranks are told."""
        if self.signal is not None:
            self._among.ask_to_stop()
            return True
        return self._among.stop_asked()


@contextmanager
def deferred() -> Iterator[Stop]:
    """Signals only set the flag while this runs; on leaving, the interruption is raised if it was set."""
    stop = Stop(ranks.current())

    def note(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            raise interruption(number)
        stop.signal = number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.asked:
        raise interruption(stop.signal)


def interruption(number: int | None) -> KeyboardInterrupt:
    """The exception of a signal; of another rank's, which is not known here, where there is none."""
    return KeyboardInterrupt() if number == signal.SIGINT else SignalledError()
