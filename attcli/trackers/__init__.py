"""Where a run's numbers are sent besides its files: one file for each tracker, found by its name; all are optional.

A module's `start(place)` returns something with `log(step, values)` and `end()`. Nothing is sent unless
`runtime.trackers` names a tracker. A tracker that fails is told once and left; it never stops a run. A run that goes on
after a stop sends its later steps to the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from loguru import logger

from attcli import registry
from attcli.errors import UserError, one_line


@dataclass(frozen=True)
class Place:
    """What a tracker is told of a run: the stage, a name that is the same when it goes on, its settings by dotted name.

    folder: where the tracker may write: for `tracking` the results, whose subfolders of the trackers' names they get.
    """

    stage: str
    name: str
    folder: Path
    settings: Mapping[str, Any]


class Tracker(Protocol):
    """A tracker that has been started."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, after step `step` (0, 1, …)."""

    def end(self) -> None:
        """There is no more to come."""


@dataclass
class Log:
    """The trackers of a run; one that fails is left."""

    _started: dict[str, Tracker] = field(default_factory=dict)

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers by name to all of them."""
        for name in list(self._started):
            try:
                self._started[name].log(step, values)
            except Exception as error:  # what trackers raise is up to them
                self._leave(name, error)

    def start(self, name: str, place: Place) -> None:
        """Start a tracker."""
        try:
            own = replace(place, folder=place.folder / name)
            own.folder.mkdir(parents=True, exist_ok=True)
            self._started[name] = registry.module("tracker", name).start(own)
        except Exception as error:
            self._leave(name, error)

    def end(self) -> None:
        """End all trackers."""
        for name in list(self._started):
            try:
                self._started.pop(name).end()
            except Exception as error:
                self._leave(name, error)

    def _leave(self, name: str, error: Exception) -> None:
        if (tracker := self._started.pop(name, None)) is not None:
            with suppress(Exception):  # one that failed may fail at that, too
                tracker.end()
        reason = one_line(str(error)) or type(error).__name__
        logger.warning("the tracker {} failed ({}); the run goes on without it", name, reason)


def check(names: Sequence[str]) -> None:
    """UserError for a tracker that there is not, or whose package is missing."""
    for name in names:
        package = registry.module("tracker", name).PACKAGE
        if find_spec(package) is None:
            raise UserError(
                f"the tracker {name} needs the package {package}, which is missing; install it (pip install {package}) "
                f"or leave it out of runtime.trackers"
            )


@contextmanager
def tracking(names: Sequence[str], place: Place) -> Iterator[Log]:
    """A function that sends numbers to these trackers."""
    log = Log()
    try:
        for name in names:
            log.start(name, place)
        yield log
    finally:
        log.end()
