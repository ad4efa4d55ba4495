"""How a case may end, and what is found where it ends otherwise."""

import signal
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from attcli.errors import LONGEST_LINE, UserError

LONGEST = LONGEST_LINE + 200
"""Characters of the longest line that may be printed."""

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of characters that do not show themselves."""


class HangError(BaseException):
    """A case that took too much of the processor's time."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """HangError in a case that computes for longer; other processes of the machine do not count."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def ending(act: Callable[[], object]) -> str:
    """`accepted` or `refused`; anything else that `act` raises goes on, and so does a refusal in an unfit line."""
    try:
        act()
    except UserError as error:
        check_line(str(error))
        return "refused"
    return "accepted"


def check_line(line: str) -> None:
    """AssertionError unless a message is one line of bounded length in which every character shows itself."""
    assert line.strip(), "an empty message"
    assert len(line) <= LONGEST, f"a message of {len(line)} characters"
    odd = [c for c in line if unicodedata.category(c) in HIDDEN and c not in "\u200c\u200d"]
    assert not odd, f"a message with {odd[:3]!r}"
