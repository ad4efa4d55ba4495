"""A disk that fails: the n-th write, sync, rename or link of this process raises an error of the system."""

import builtins
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Disk:
    """Counts calls below a folder, and fails from one of them on, or that one `once`; with `at` 0 it only counts."""

    def __init__(self, folder: str, at: int, number: int, once: bool) -> None:
        self.folder, self.at, self.number, self.once, self.calls = folder, at, number, once, 0

    def hit(self, path: object) -> None:
        """One more call on a path; fails if it is the one, and from then on, as a full disk does, unless `once`."""
        if str(path).startswith(self.folder):
            self.calls += 1
            if self.at and (self.calls == self.at if self.once else self.calls >= self.at):
                raise OSError(self.number, os.strerror(self.number), str(path))


@contextmanager
def failing(folder: str, at: int, number: int, *, once: bool = False) -> Iterator[Disk]:
    """All writing goes through the disk meanwhile."""
    disk = Disk(folder, at, number, once)
    real_open, real = io.open, {name: getattr(os, name) for name in ("replace", "link", "fsync", "mkdir")}

    class Faulty(io.FileIO):
        def write(self, data: Any) -> int:
            disk.hit(self.name)
            return super().write(data)

    def opened(file: Any, mode: str = "r", buffering: int = -1, *text: Any, **options: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return real_open(file, mode, buffering, *text, **options)
        raw = Faulty(os.fspath(file), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *text, **options)

    def faulty(name: str) -> Any:
        def call(first: Any, *others: Any, **options: Any) -> Any:
            disk.hit(disk.folder if isinstance(first, int) else first)
            return real[name](first, *others, **options)

        return call

    io.open = builtins.open = opened  # type: ignore[assignment]
    for name in real:
        setattr(os, name, faulty(name))
    try:
        yield disk
    finally:
        io.open = builtins.open = real_open  # type: ignore[assignment]
        for name, function in real.items():
            setattr(os, name, function)
