"""Finished evaluations, a line of JSON each, appended as they come: what is written once is never computed again."""

import json
import os
from pathlib import Path
from typing import Any

Key = tuple[str, ...]


class Results:
    """The accuracies found so far, by key. A line that was cut short by a crash is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[Key, dict[str, Any]] = {}

    @property
    def folder(self) -> Path:
        """Where the file is; whoever writes holds it."""
        return self._path.parent

    def load(self) -> None:
        """Read what was kept before; only a process that holds the folder may do so."""
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        for line in lines:
            if line.endswith("\n"):
                entry = json.loads(line)
                self._found[tuple(entry["key"])] = entry["value"]
        if lines and not lines[-1].endswith("\n"):
            os.truncate(path, sum(len(line.encode()) for line in lines[:-1]))

    def get(self, key: Key) -> dict[str, Any] | None:
        """What was found for a key, if anything."""
        return self._found.get(key)

    def add(self, key: Key, value: dict[str, Any]) -> None:
        """Record a finding; it is on the disk when this returns."""
        self._found[key] = value
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": list(key), "value": value}) + "\n")
            file.flush()
            os.fsync(file.fileno())
