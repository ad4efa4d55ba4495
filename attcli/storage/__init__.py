"""How each learned number is kept on the disk: one file per choice, found by its name.

The student trains on what the file can hold: numbers are rounded in the forward pass, and the gradient passes through
the rounding as if it were not there (the straight-through estimate). A number outside of the range that can be kept is
kept as the end of the range; its gradient passes only if it leads back. Storages of few bits round to a grid,
whose scales follow the numbers: they are fitted anew every so many iterations. Modules are imported without torch.
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

    Scales = dict[str, Tensor]
    """What a tensor's numbers are rounded by, beside themselves; nothing for a floating-point type."""

    Limits = tuple[float, float]


class Storage(Protocol):
    """What a choice offers; its module's `make(**options)` returns one. Tensors are (n, …): n units, of equal shape."""

    def bits(self, shape: tuple[int, ...]) -> int:
        """The bits that a unit of this shape takes, before any compression; scales that all units share are apart."""

    def size(self, shape: tuple[int, ...]) -> int:
        """The bytes of all arrays that `pack` makes of a tensor of this shape (n, …), before any compression."""

    def fit(self, numbers: Tensor, limits: Limits | None) -> Scales:
        """The scales for these numbers, whose smallest and largest allowed values are `limits` if they have any."""

    def refits(self, iteration: int) -> bool:
        """Whether scales are fitted anew after so many iterations."""

    def rounded(self, numbers: Tensor, scales: Scales) -> Tensor:
        """The numbers that `unpack` would give back, in the type of `numbers`; no gradient flows through this."""

    def beyond(self, numbers: Tensor, scales: Scales) -> Tensor | None:
        """1 for numbers above what can be kept, -1 for those below, 0 for others (i8); None where all are within."""

    def pack(self, numbers: Tensor, scales: Scales) -> Packed:
        """The arrays that the file holds for a tensor (on the CPU); their bytes are what the set costs."""

    def scales_of(self, packed: Packed, shape: tuple[int, ...]) -> Scales:
        """The scales that a tensor of that shape was packed with; ValueError or KeyError as `unpack`."""

    def unpack(self, packed: Packed, shape: tuple[int, ...]) -> Tensor:
        """The tensor of that shape again, equal to `rounded` of what was packed, bit for bit.

        ValueError or KeyError where the arrays do not fit it.
        """


def load(name: str, **options: object) -> Storage:
    """The storage of that name, with its options."""
    storage: Storage = registry.module("storage", name).make(**options)
    return storage
