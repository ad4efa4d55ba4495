"""Datasets, one file each (or a family's): `INFO` says what it is, `load(data_dir, name)` reads it.

Where the facts lie in files, a module has `describe(request)` (its facts), `digest(request)` (a SHA-256 of its input,
which becomes part of the prepared dataset's identity) and `load(request)` instead of `load(data_dir, name)`, and may
declare `class Options(Section)`, which become settings of `prepare`. Importing these modules loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from attcli import registry
from attcli.options import DatasetInfo as DatasetInfo
from attcli.options import Request as Request

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


def describe(request: Request) -> DatasetInfo:
    """The facts of a dataset. UserError where they lie in files that are missing or not what they should be."""
    module = registry.source(request.name)
    if hasattr(module, "describe"):
        described: DatasetInfo = module.describe(request)
        return described
    return registry.dataset(request.name)


def digest(request: Request) -> str | None:
    """The SHA-256 of a dataset's input files; None for a dataset that its name alone decides.

    MissingError where the files are not there.
    """
    module = registry.source(request.name)
    return str(module.digest(request)) if hasattr(module, "digest") else None


def load(request: Request) -> Source:
    """A dataset as it was split. UserError where its files are missing or not what they should be."""
    module = registry.source(request.name)
    source: Source = (
        module.load(request) if hasattr(module, "describe") else module.load(request.data_dir, request.name)
    )
    return source
