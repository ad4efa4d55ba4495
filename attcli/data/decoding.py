"""Splits whose images lie in files."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from attcli.data.image import ImageFile, UnreadableError, decode_each
from attcli.data.readers import each_piece
from attcli.data.sources import Decoded

MEASURED_IMAGES, MEASURED_SECONDS = 32, 1.0
"""How many images are decoded at most to measure how long one takes, and for how long."""


class DecodedFiles:
    """A split whose images are decoded when they are read, side by side.

    `file(i)` is the path of image i, or its bytes; `named(i)` is what messages call it; labels are classes i64 (N,).
    """

    def __init__(
        self,
        file: Callable[[int], ImageFile],
        named: Callable[[int], str],
        labels: NDArray[np.int64],
        channels: int,
        resolution: int,
        fit: str,
    ) -> None:
        self._file, self._named, self._labels = file, named, labels
        self._channels, self._resolution, self._fit = channels, resolution, fit

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each image (N,)."""
        return self._labels

    def name(self, index: int) -> str:
        """What messages call an image: its path below the folder."""
        return self._named(index)

    def seconds_each(self) -> float:
        """How long one process takes to decode an image, measured on some that are spread over the split."""
        begun, decoded = time.perf_counter(), 0
        for i in np.linspace(0, len(self._labels) - 1, MEASURED_IMAGES).round().astype(int):
            decode_each([self._file(int(i))], self._channels, self._resolution, self._fit)
            decoded += 1
            if time.perf_counter() - begun > MEASURED_SECONDS:
                break
        return (time.perf_counter() - begun) / decoded

    def decode(self, index: NDArray[np.int64]) -> Decoded:
        """The images with these indices (B,), decoded side by side; those that cannot be read are black."""
        images = np.empty((len(index), self._channels, self._resolution, self._resolution), np.uint8)
        problems: dict[int, str] = {}
        first = animated = 0
        files = [self._file(int(i)) for i in index]
        how = self._channels, self._resolution, self._fit
        for some, odd, several in each_piece(decode_each, files, *how, total=len(self._labels)):
            images[first : first + len(some)] = some
            problems |= {first + place: why for place, why in odd.items()}
            animated += several
            first += len(some)
        return Decoded(images, problems, animated)

    def read(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images u8 (B, C, H, W) with these indices (B,). UnreadableError for the first that cannot be read."""
        decoded = self.decode(index)
        for place, why in decoded.problems.items():
            raise UnreadableError(f"{self.name(int(index[place]))}: {why}")
        return decoded.images
