"""Datasets, one file each (or a family's): `INFO` says what it is, `load(data_dir, name)` reads it.

Importing them loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from attcli.options import DatasetInfo as DatasetInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Split(Protocol):
    """A part of a dataset: the labels i64 (N,) of its images, and the images by their indices."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each image (N,)."""

    def read(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images u8 (B, C, H, W) with these indices (B,)."""


class Images(NamedTuple):
    """A split that is held in memory: images u8 (N, C, H, W) and their labels i64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def read(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images u8 (B, C, H, W) with these indices (B,)."""
        return self.images[index]


class Decoded(NamedTuple):
    """Images u8 (B, C, H, W); the places of those that cannot be read, and why; how many have more than one frame."""

    images: NDArray[np.uint8]
    problems: dict[int, str]
    animated: int


@runtime_checkable
class Files(Split, Protocol):
    """A split whose images lie in files: they are decoded once, and some of them may be unreadable."""

    def decode(self, index: NDArray[np.int64]) -> Decoded:
        """The images with these indices (B,); those that cannot be read are black."""

    def name(self, index: int) -> str:
        """The file of an image, as messages name it."""


class Source(NamedTuple):
    """A dataset as its authors split it, with the classes' names in the order of their labels."""

    train: Split
    test: Split
    classes: list[str]
