"""Images that are decoded one block after the other, kept in plain files, so that a killed process goes on from there.

`NAME.images` holds the bytes of all rows, `NAME.jsonl` a line per block: how many rows, their SHA-256, and which of
them could not be read, and why. A block counts once its line is complete and its digest fits.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Spool:
    """The blocks of images u8 (rows, C, H, W) that were decoded so far. What does not fit at the end is cut off."""

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...]) -> None:
        self._images, self._index = _files(folder, name)
        self._shape = shape
        self._row_bytes = int(np.prod(shape))
        self._blocks: list[dict[str, Any]] = []
        self._images.touch()
        self._index.touch()
        self._recover()

    def _recover(self) -> None:
        lines = self._index.read_bytes().splitlines(keepends=True)
        with self._images.open("rb") as images:
            for line in lines:
                block = _block(line)
                data = images.read(block["rows"] * self._row_bytes) if block else b""
                if block is None or hashlib.sha256(data).hexdigest() != block["sha256"]:
                    break
                self._blocks.append(block)
        os.truncate(self._index, sum(len(line) for line in lines[: len(self._blocks)]))
        os.truncate(self._images, self.rows * self._row_bytes)

    @property
    def rows(self) -> int:
        """How many rows there are, with those that could not be read."""
        return sum(block["rows"] for block in self._blocks)

    @property
    def problems(self) -> dict[int, str]:
        """The rows that could not be read, and why."""
        by_row: dict[int, str] = {}
        first = 0
        for block in self._blocks:
            by_row |= {first + int(row): reason for row, reason in block["problems"].items()}
            first += block["rows"]
        return by_row

    @property
    def animated(self) -> int:
        """How many images had more than one frame."""
        return sum(block["animated"] for block in self._blocks)

    def append(self, images: NDArray[np.uint8], problems: dict[int, str], animated: int) -> None:
        """One more block (rows, C, H, W), with the rows in it that could not be read."""
        data = np.ascontiguousarray(images).data
        block = {
            "rows": len(images),
            "sha256": hashlib.sha256(data).hexdigest(),
            "problems": {str(row): reason for row, reason in problems.items()},
            "animated": animated,
        }
        with self._images.open("r+b") as file:
            file.seek(self.rows * self._row_bytes)
            file.write(data)
            file.truncate()
        with self._index.open("a", encoding="utf-8") as index:
            index.write(json.dumps(block) + "\n")
        self._blocks.append(block)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images (B, C, H, W) of rows in rising order, of which few between the first and the last are left out."""
        if not len(rows):
            return np.empty((0, *self._shape), np.uint8)
        first, count = int(rows[0]), int(rows[-1] - rows[0]) + 1
        flat = np.fromfile(self._images, np.uint8, count * self._row_bytes, offset=first * self._row_bytes)
        images = flat.reshape(count, *self._shape)
        return images if count == len(rows) else images[rows - first]


def remove_spool(folder: Path, name: str) -> None:
    """Delete a spool's files, where they are there: what they held is kept elsewhere now."""
    for file in _files(folder, name):
        file.unlink(missing_ok=True)


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.images", folder / f"{name}.jsonl"


def _block(line: bytes) -> dict[str, Any] | None:
    """What a line says of its block; None where it is not whole."""
    try:
        block = json.loads(line)
    except ValueError:
        return None
    whole = (
        line.endswith(b"\n") and isinstance(block, dict) and {"rows", "sha256", "problems", "animated"} <= set(block)
    )
    return block if whole else None


def in_pieces(count: int, size: int) -> Iterator[tuple[int, int]]:
    """The first row, and the one after the last, of every `size` of `count` rows."""
    for first in range(0, count, size):
        yield first, min(first + size, count)
