"""A stage that is asked to stop by a signal finishes its step and saves; Ctrl-C again stops it at once.

Ctrl-C stops it, and SIGTERM and SIGUSR1, which batch systems send before the time is over. One request may come twice,
from the terminal and from the program that started this one.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from attcli import ranks
from attcli.errors import SignalledError
from attcli.ranks import Ranks
from attcli.signals import SIGNALS

SAME_SECONDS = 1.0
"""Signals within so short a time are one request."""

WAITING = "attcli: asked to stop; what is in progress is finished and saved first (Ctrl-C again stops at once)\n"


class Stop:
    """Whether somebody asked this process to stop, or another one that shares its work."""

    def __init__(self, among: Ranks) -> None:
        self._among = among
        self.signal: int | None = None

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self.signal is not None or self._among.stop_asked()

    def check(self) -> None:
        """LostError where rank 0 is gone, and others may work in its folders now."""
        self._among.stop_asked()

    def tell(self) -> None:
        """Let the other processes know, where it was this one that was asked."""
        if self.signal is not None:
            self._among.ask_to_stop()


@contextmanager
def deferred() -> Iterator[Stop]:
    """Signals only set the flag while this runs, and say so; on leaving, the interruption is raised if it was set.

    A second Ctrl-C ends the work at once, but not on other ranks than 0, which ends theirs. Python handles signals in
    the main thread alone; in another one, nothing is done about them.
    """
    among = ranks.current()
    stop, first = Stop(among), 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        again = stop.signal is not None and number == signal.SIGINT and time.monotonic() - first > SAME_SECONDS
        if again and among.lead:
            raise interruption(number)
        if stop.signal is None:
            stop.signal, first = number, time.monotonic()
            if among.lead:
                _say(WAITING)

    before = {number: signal.getsignal(number) for number in SIGNALS if _is_main_thread()}
    before = {number: handler for number, handler in before.items() if handler is not None}  # else it is not Python's
    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    stop.tell()
    if stop.asked:
        raise_as_handled(stop.signal)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _say(line: str) -> None:
    """Write to stderr past its buffer and past the log, which may be in use where the signal came."""
    with suppress(AttributeError, OSError, ValueError):  # there is none, it is closed, or it is no file
        number = sys.stderr.fileno()
        os.write(number, (f"\n{line}" if os.isatty(number) else line).encode())  # below the progress bar


def raise_as_handled(number: int | None) -> NoReturn:
    """Raise a signal's exception as the handler of Ctrl-C does, which may meet the next one in another way."""
    handler = signal.getsignal(signal.SIGINT)
    if number == signal.SIGINT and callable(handler):
        handler(number, None)
    raise interruption(number)


def interruption(number: int | None) -> KeyboardInterrupt:
    """The exception of a signal; of another rank's, which is not known here, where there is none."""
    return KeyboardInterrupt() if number == signal.SIGINT else SignalledError()
