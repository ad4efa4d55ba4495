"""Finished evaluations, a line of JSON each, appended as they come: what is written once is never computed again."""

import os
from pathlib import Path
from typing import Any

from loguru import logger

from attcli.store.lines import entry_of, line_of

Key = tuple[str, ...]


class Results:
    """The accuracies known so far, by key, read when first asked for; only who holds `folder` may ask.

    A line that a crash cut short is dropped, and one that does not fit its checksum, with a warning: its result is
    computed again.

    rank: of the process, where several share the work. Rank 0's file holds all results; each of the others adds to a
    file of its own, which `merge` takes over.
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        self._path, self._rank = path, rank
        self._kept: dict[Key, dict[str, Any]] | None = None

    @property
    def _own(self) -> Path:
        """The file that this process adds to."""
        return self._path.with_name(f"{self._path.stem}-{self._rank}.jsonl") if self._rank else self._path

    def merge(self) -> None:
        """Take over what the other ranks have added, also those of a command that was killed; rank 0 alone does."""
        for file in sorted(self._path.parent.glob(f"{self._path.stem}-*.jsonl")):
            for key, value in self._parsed(file.read_bytes().splitlines(keepends=True)).items():
                if self.get(key) is None:
                    self.add(key, value)
            file.unlink()

    @property
    def folder(self) -> Path:
        """Where the file is."""
        return self._path.parent

    @property
    def _known(self) -> dict[Key, dict[str, Any]]:
        if self._kept is None:
            self._kept = self._read()
        return self._kept

    def kept(self) -> dict[Key, dict[str, Any]]:
        """What the file holds at present; anybody may ask, and nothing is changed."""
        return self._parsed(self._lines())

    def _lines(self) -> list[bytes]:
        return self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []

    def _parsed(self, lines: list[bytes]) -> dict[Key, dict[str, Any]]:
        known = {}
        for line in lines:
            try:
                entry = entry_of(line) or {}
                known[tuple(entry["key"])] = dict(entry["value"])
            except (ValueError, KeyError, TypeError):
                if line.endswith(b"\n"):
                    logger.warning("{} has a damaged line; its result is computed again", self._path)
        return known

    def _read(self) -> dict[Key, dict[str, Any]]:
        path, lines = self._path, self._lines()
        path.parent.mkdir(parents=True, exist_ok=True)
        known = self._parsed(lines)
        if lines and not lines[-1].endswith(b"\n") and not self._rank:
            os.truncate(path, sum(len(line) for line in lines[:-1]))
        return known

    def get(self, key: Key) -> dict[str, Any] | None:
        """What was found for a key, if anything."""
        return self._known.get(key)

    def found(self) -> tuple[Key, ...]:
        """What something was found for."""
        return tuple(self._known)

    def add(self, key: Key, value: dict[str, Any]) -> None:
        """Record a finding; it is on the disk when this returns."""
        self._known[key] = value
        with self._own.open("ab") as file:
            file.write(line_of({"key": list(key), "value": value}))
            file.flush()
            os.fsync(file.fileno())
