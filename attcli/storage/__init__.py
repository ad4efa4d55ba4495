"""How each learned number is kept on the disk: one file per choice, found by its name.

The student trains on what the file can hold: numbers are rounded in the forward pass, and the gradient passes through
the rounding as if it were not there (the straight-through estimate).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attcli import registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Packed = dict[str, NDArray[np.generic]]
    """The arrays that stand for one tensor in a file, by name."""


class Storage(Protocol):
    """What a choice offers; its module's `make(**options)` returns one."""

    def rounded(self, numbers: Tensor) -> Tensor:
        """The numbers that `unpack` would give back, in the type of `numbers`; no gradient flows through this."""

    def pack(self, numbers: Tensor) -> Packed:
        """The arrays that the file holds for a tensor (on the CPU); their bytes are what the set costs."""

    def unpack(self, packed: Packed) -> Tensor:
        """The tensor again, equal to `rounded` of what was packed, bit for bit."""


def load(name: str, **options: object) -> Storage:
    """The storage of that name, with its options."""
    storage: Storage = registry.module("storage", name).make(**options)
    return storage


def straight_through(storage: Storage, numbers: Tensor) -> Tensor:
    """The rounded numbers, with the derivative of the numbers themselves."""
    import torch

    with torch.no_grad():
        rounded = storage.rounded(numbers)
    if rounded is numbers or not numbers.requires_grad:
        return rounded
    return numbers + (rounded - numbers).detach()
