"""The log and the progress bar, both on stderr and out of each other's way.

Where nothing can be drawn over (a pipe, a file, a notebook, TERM=dumb), lines of the log stand for the bar.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attcli.errors import one_line

logger.disable("attcli")  # a library is silent; `configure` enables the log

console = Console(stderr=True)
PLAIN_SECONDS, LONGEST_PAUSE = 30.0, 600.0
"""The pause between two lines of the log: it grows with the time that a work has taken, so that a run of days does not
fill its log."""

PAUSE_SHARE = 0.02
"""The pause, as a share of the time that the work has taken."""

LEVELS = {"quiet": "WARNING", "normal": "INFO", "debug": "DEBUG"}


def draws() -> bool:
    """Whether a bar can be drawn: on a terminal that moves its cursor. FORCE_COLOR makes none of a pipe."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


def mute() -> None:
    """Draw and log nothing from now on, where another process tells of the work."""
    console.quiet = True
    logger.remove()


def configure(verbosity: str) -> None:
    """Send loguru's lines of this verbosity through the console that draws the bar."""
    logger.enable("attcli")
    logger.remove()
    if draws():
        logger.add(
            lambda line: console.print(line, end="", markup=False, highlight=False, soft_wrap=True),
            level=LEVELS[verbosity],
            format=_line,
        )
    else:
        logger.add(sys.stderr, level=LEVELS[verbosity], format=_line, colorize=False)


def _line(record: Any) -> str:
    """The form of a record in the log: a line, whatever names of files and classes it repeats."""
    record["extra"]["line"] = one_line(record["message"])
    return "{time:HH:mm:ss} {level: <7} {extra[line]}\n{exception}"


def duration(seconds: float) -> str:
    """A duration in words."""
    for unit, size in (("years", 365 * 86400.0), ("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "a second"


def speed(per_second: float) -> str:
    """A speed in words: how many a second, or, where that is less than one, how long one takes."""
    if per_second >= 1:
        return f"{per_second:.3g} per second"
    return f"{1 / per_second:.3g} s each" if per_second > 1 / 60 else f"{1 / per_second / 60:.3g} min each"


class Track:
    """The progress of one piece of work."""

    def __init__(self, label: str, total: int, done: int, bar: Progress | None) -> None:
        self._label, self._total, self._done, self._bar = label, total, done, bar
        self._begun = self._told = time.monotonic()
        self._first = done
        self._task = bar.add_task(label, total=total, completed=done, note="", speed="") if bar else None

    def advance(self, note: str = "") -> None:
        """One more unit is done; `note` says how it goes."""
        self._done, note = self._done + 1, one_line(note)
        now = time.monotonic()
        taken = now - self._begun
        pace = speed((self._done - self._first) / taken) if taken > 0 else ""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, note=note, speed=pace)
        elif now - self._told >= min(LONGEST_PAUSE, max(PLAIN_SECONDS, PAUSE_SHARE * taken)):
            self._told = now
            left = taken / (self._done - self._first) * (self._total - self._done)
            said = f"{self._label} {self._done}/{self._total}{', ' if note else ''}{note}"
            logger.info("{} ({}, {})", said, pace, f"about {duration(left)} left" if left else "done")


@contextmanager
def track(label: str, total: int, done: int = 0) -> Iterator[Track]:
    """Show the progress of `total` units, of which `done` were done before."""
    if not draws():
        yield Track(label, total, done, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("took"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Track(label, total, done, bar)
