"""Datasets, one file each (or a family's): `INFO` says what it is, `load(data_dir, name)` reads it.

Importing them loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from attcli.options import DatasetInfo as DatasetInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Images(NamedTuple):
    """Images u8 (N, C, H, W) and their labels i64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Source(NamedTuple):
    """A dataset as its authors split it, with the classes' names in the order of their labels."""

    train: Images
    test: Images
    classes: list[str]
