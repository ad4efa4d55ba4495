"""The signals that end a command. This module imports nothing that takes time."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""What batch systems send to let a process end in time."""

SIGNALS = (signal.SIGINT, *STOPPING)
"""What interrupts a stage."""


@contextmanager
def held(numbers: Sequence[signal.Signals] = SIGNALS) -> Iterator[None]:
    """Let these signals wait while this runs; after it, each that came is handled as it would have been before.

    Python handles signals in the main thread alone, whichever thread the system gives them to. So in another thread
    there is nothing to hold.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not None:  # else it is not Python's
            signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
    for arrived in dict.fromkeys(came):
        signal.raise_signal(arrived)
