"""Processes that read image files side by side.

Threads would hardly help: Pillow holds the interpreter's lock for most of the time that a small image takes. A reader
is a fresh Python that imports only `attcli.data.image`. It gets its work through a pipe and ends when the pipe does, so
that none outlives the process that began it, however that ends. Whatever a reader cannot do is done here instead.
"""

import atexit
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeVar

from attcli.data.image import ImageFile

R = TypeVar("R")

WORTHWHILE = 1000
"""Readers are begun for so many files at least; they take some tenths of a second to begin."""

PIECE = 64
"""Files that a reader is handed at a time."""

COMMAND = "from attcli.data.readers import serve; serve()"


class _Reader:
    """A process that reads files; begun by the first thread that needs it."""

    def __init__(self) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=1 << 20,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the process that began it
        )

    def do(self, work: Any) -> Any:
        """The result of the work. OSError, EOFError or UnpicklingError where the process has ended."""
        assert self._process.stdin
        assert self._process.stdout
        pickle.dump(work, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)

    def end(self) -> None:
        """Let it end, and wait until it has."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def serve() -> None:
    """What a reader does: it takes work from its input and writes the results, until there is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    take, give = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may write among the results
    with suppress(EOFError, OSError):
        while True:
            function, files, others = pickle.load(take)
            pickle.dump(function(files, *others), give, pickle.HIGHEST_PROTOCOL)
            give.flush()


class Readers:
    """As many readers as there are cores, with a thread that talks to each; kept until `end`."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, "reader")
        self._free: SimpleQueue[_Reader | None] = SimpleQueue()
        self._begun: list[_Reader] = []
        for _ in range(count):
            self._free.put(None)

    def submit(self, function: Callable[..., R], files: Sequence[ImageFile], others: tuple[Any, ...]) -> Future[R]:
        """What function(files, *others) will give."""
        return self._pool.submit(self._do, function, files, others)

    def _do(self, function: Callable[..., R], files: Sequence[ImageFile], others: tuple[Any, ...]) -> R:
        reader = self._free.get()
        try:
            if reader is None:
                reader = _Reader()
                self._begun.append(reader)
            result: R = reader.do((function, files, others))
            return result
        except (OSError, EOFError, pickle.UnpicklingError):
            return function(files, *others)
        finally:
            self._free.put(reader)

    def end(self) -> None:
        """End all readers; what was not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)
        for reader in self._begun:
            reader.end()


_kept: list[Readers] = []
_beginning = Lock()


def at_once(files: int) -> int:
    """How many processes read so many files."""
    from attcli import runtime

    return runtime.cores() if files >= WORTHWHILE else 1


def each_piece(
    function: Callable[..., R], files: Sequence[ImageFile], *others: Any, total: int | None = None
) -> Iterator[R]:
    """function(some files, *others) for all files, piece by piece, in their order.

    `function` is one of `attcli.data.image`. Readers do it where the files are many (`total`, if these are a part of
    more) and there are several cores; otherwise this thread does it.
    """
    pieces = [files[first : first + PIECE] for first in range(0, len(files), PIECE)]
    cores = at_once(max(len(files), total or 0))
    if cores == 1:
        for piece in pieces:
            yield function(piece, *others)
        return
    with _beginning:  # blocks are decoded ahead, each by a thread of its own
        if not _kept:
            _kept.append(Readers(cores))
            atexit.register(end)
        readers = _kept[0]
    futures = [readers.submit(function, piece, others) for piece in pieces]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def end() -> None:
    """End the readers, which take some memory; they are begun again where there is more to read."""
    while _kept:
        _kept.pop().end()
    atexit.unregister(end)
