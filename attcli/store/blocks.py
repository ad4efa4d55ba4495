"""Images in a file, read by their rows: each block of rows is compared with its digest before its first use."""

import hashlib
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attcli.errors import DamagedError

BLOCK_BYTES = 4 << 20
"""About so many bytes have one digest."""


def rows_of_a_block(shape: tuple[int, ...]) -> int:
    """How many rows of an array u8 (N, …) have one digest."""
    return max(1, BLOCK_BYTES // int(np.prod(shape[1:])))


def digests_of(name: str) -> str:
    """The name of the array that holds the digests of the blocks of the array `name`."""
    return f"{name.rpartition('/')[0]}/digests"


class BlockDigests:
    """The SHA-256 of every so many rows, of an array that comes in pieces of any size."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._current, self._in_current = hashlib.sha256(), 0
        self._done: list[bytes] = []

    def add(self, piece: NDArray[Any]) -> None:
        """The next rows."""
        while len(piece):
            part = piece[: self._rows - self._in_current]
            self._current.update(np.ascontiguousarray(part).data)
            self._in_current += len(part)
            piece = piece[len(part) :]
            if self._in_current == self._rows:
                self._close()

    def _close(self) -> None:
        self._done.append(self._current.digest())
        self._current, self._in_current = hashlib.sha256(), 0

    def finished(self) -> NDArray[np.uint8]:
        """All digests (blocks, 32); the last block may be shorter."""
        if self._in_current:
            self._close()
        return np.frombuffer(b"".join(self._done), np.uint8).reshape(-1, 32)


class FileImages:
    """Images u8 (N, C, H, W) that stay in a file, from byte `offset` on; `images[index]` reads those with an index.

    With `digests` (blocks, 32) a block is verified when one of its rows is read for the first time. The file may be
    replaced meanwhile: the one that was opened is read. `maker` is the command that makes it.
    """

    def __init__(
        self, path: Path, maker: str, offset: int, shape: tuple[int, ...], digests: NDArray[np.uint8] | None
    ) -> None:
        self.shape = torch.Size(shape)
        self._path, self._maker, self._offset = path, maker, offset
        self._row_bytes = int(np.prod(shape[1:]))
        self._rows = rows_of_a_block(shape)
        self._digests = digests
        self._verified = np.zeros(-(-shape[0] // self._rows), bool)
        self._handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """The images u8 (B, C, H, W) with these indices. DamagedError where the file is."""
        rows = np.arange(len(self))[index] if isinstance(index, slice) else index.cpu().numpy()
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"an index outside of {len(self)} images")
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for block in np.unique(rows // self._rows):
            self._verify(int(block))
        flat = images.reshape(len(rows), self._row_bytes)
        for i, row in enumerate(rows.tolist()):
            flat[i] = np.frombuffer(self._bytes(row, 1), np.uint8)
        return torch.from_numpy(images)

    def _bytes(self, first: int, count: int) -> bytes:
        """The bytes of rows."""
        wanted, begin = count * self._row_bytes, self._offset + first * self._row_bytes
        data = os.pread(self._handle, wanted, begin)
        while 0 < len(data) < wanted:
            more = os.pread(self._handle, wanted - len(data), begin + len(data))
            data = data + more if more else b""
        if len(data) != wanted:
            raise self._damaged("it is cut short")
        return data

    def _verify(self, block: int) -> None:
        if self._digests is None or self._verified[block]:
            return
        first = block * self._rows
        data = self._bytes(first, min(self._rows, len(self) - first))
        if hashlib.sha256(data).digest() != self._digests[block].tobytes():
            raise self._damaged(f"block {block} of its images does not match its digest")
        self._verified[block] = True

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{self._path} is damaged ({what}); move it elsewhere and run `{self._maker}`")
