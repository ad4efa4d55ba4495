"""The log and the progress bar, both on stderr and out of each other's way; plain lines where stderr is no terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
PLAIN_SECONDS = 30.0
LEVELS = {"quiet": "WARNING", "normal": "INFO", "debug": "DEBUG"}


def configure(verbosity: str) -> None:
    """Send loguru's lines of this verbosity through the console that draws the bar."""
    logger.enable("attcli")
    logger.remove()
    if console.is_terminal:
        logger.add(
            lambda line: console.print(line, end="", markup=False, highlight=False, soft_wrap=True),
            level=LEVELS[verbosity],
            format="{time:HH:mm:ss} {level: <7} {message}",
        )
    else:
        logger.add(sys.stderr, level=LEVELS[verbosity], format="{time:HH:mm:ss} {level: <7} {message}", colorize=False)


def duration(seconds: float) -> str:
    """A duration in words."""
    for unit, size in (("years", 365 * 86400.0), ("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "a second"


class Track:
    """The progress of one piece of work."""

    def __init__(self, label: str, total: int, done: int, bar: Progress | None) -> None:
        self._label, self._total, self._done, self._bar = label, total, done, bar
        self._begun = self._told = time.monotonic()
        self._first = done
        self._task = bar.add_task(label, total=total, completed=done, note="") if bar else None

    def advance(self, note: str = "") -> None:
        """One more unit is done; `note` says how it goes."""
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, note=note)
        elif time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            pace = (self._told - self._begun) / (self._done - self._first)
            left = duration(pace * (self._total - self._done))
            said = f"{self._label} {self._done}/{self._total}{', ' if note else ''}{note}"
            logger.info("{} (about {} left)", said, left)


@contextmanager
def track(label: str, total: int, done: int = 0) -> Iterator[Track]:
    """Show the progress of `total` units, of which `done` were done before."""
    if not console.is_terminal:
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
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Track(label, total, done, bar)
