"""A stage that is asked to stop (Ctrl-C, SIGTERM) finishes its step and saves; asked twice, it stops at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked to stop."""

    asked = False


@contextmanager
def deferred() -> Iterator[Stop]:
    """Signals only set the flag while this runs; on leaving, KeyboardInterrupt is raised if it was set."""
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.asked:
        raise KeyboardInterrupt
