"""A disk that fails: the n-th write, sync, rename or link of this process raises an error of the system, or kills it.

And a device whose memory is full.
"""

import builtins
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Disk:
    """Counts calls below a folder, and fails from one of them on, or that one `once`; with `at` 0 it only counts."""

    names = ("replace", "link", "fsync", "mkdir")
    """The functions of `os` that are calls, beside the writing of files."""

    def __init__(self, folder: str, at: int, number: int, once: bool) -> None:
        self.folder, self.at, self.number, self.once, self.calls = folder, at, number, once, 0

    def hit(self, path: object) -> bool:
        """One more call on a path; fails if it is the one, and from then on, as a full disk does, unless `once`.

        Returns whether it is the one: never, as it fails.
        """
        if os.path.abspath(str(path)).startswith(self.folder):
            self.calls += 1
            if self.at and (self.calls == self.at if self.once else self.calls >= self.at):
                self.strike(path)
                return True
        return False

    def strike(self, path: object) -> None:
        """What happens at the call."""
        raise OSError(self.number, os.strerror(self.number), str(path))


class Deadly(Disk):
    """A disk at whose n-th call the process is killed; a write is torn, as half of its bytes are written before."""

    names = (*Disk.names, "unlink", "truncate", "ftruncate")

    def __init__(self, folder: str, at: int) -> None:
        super().__init__(folder, at, 0, once=True)

    def strike(self, path: object) -> None:
        """Nothing yet: what is torn is written first."""

    def kill(self) -> None:
        """End this process at once."""
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def failing(folder: str, at: int, number: int, *, once: bool = False) -> Iterator[Disk]:
    """All writing goes through a disk that fails meanwhile."""
    with through(Disk(folder, at, number, once)) as disk:
        yield disk


@contextmanager
def through(disk: Disk) -> Iterator[Disk]:
    """All writing goes through the disk meanwhile."""
    real_open, real = io.open, {name: getattr(os, name) for name in disk.names}

    class Faulty(io.FileIO):
        def write(self, data: Any) -> int:
            if disk.hit(self.name) and isinstance(disk, Deadly):
                super().write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
                disk.kill()
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
            if disk.hit(disk.folder if isinstance(first, int) else first) and isinstance(disk, Deadly):
                disk.kill()
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


FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.1 GiB of which none is free."
"""What torch says of a full GPU."""


@contextmanager
def room_for(images: int, error: Exception | None = None) -> Iterator[None]:
    """Meanwhile a student's steps fail on more images than that, as on a GPU whose memory is full."""
    import torch

    from attcli.matching.student import Student

    real = {name: getattr(Student, name) for name in ("gradient_and_logits", "derivatives")}

    def limited(name: str) -> Callable:
        def step(self: Student, theta: Any, x: Any, *others: Any, **options: Any) -> Any:
            if len(x) > images:
                raise error or torch.OutOfMemoryError(FULL)
            return real[name](self, theta, x, *others, **options)

        return step

    for name in real:
        setattr(Student, name, limited(name))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(Student, name, function)
