"""uint8: one byte per number, on a grid of 256 values that all numbers of a tensor share.

Where numbers have limits, as values of images in [0, 1] have, the grid lies between them; elsewhere between the
smallest and the largest number.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from attcli.storage import affine
from attcli.storage.affine import Options

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.storage import Limits, Packed, Scales

__all__ = ["Bytes", "Options", "make"]

TOP = 255


class Bytes:
    """Two arrays: `codes` u8 of the tensor's shape, and `scale` f32 (2,), the grid's lowest value and its step."""

    def __init__(self, every: int, until: int) -> None:
        self._every, self._until = every, until

    def bits(self, shape: tuple[int, ...]) -> int:
        """Eight per number."""
        return 8 * prod(shape)

    def size(self, shape: tuple[int, ...]) -> int:
        """A byte per number, and eight for the grid."""
        return prod(shape) + 8

    def fit(self, numbers: Tensor, limits: Limits | None) -> Scales:
        """The grid: `scale` f32 (2,)."""
        import torch

        ends = torch.tensor(limits) if limits else torch.stack([numbers.min(), numbers.max()])
        low, high = ends.to(numbers.device, torch.float32)
        return {"scale": torch.stack([low, (high - low) / TOP])}

    def refits(self, iteration: int) -> bool:
        """Every so many iterations, until the last of them."""
        return affine.refits(iteration, self._every, self._until)

    def rounded(self, numbers: Tensor, scales: Scales) -> Tensor:
        """The nearest values of the grid."""
        low, step = scales["scale"]
        return affine.numbers_of(affine.codes_of(numbers, low, step, TOP), low, step).to(numbers.dtype)

    def beyond(self, numbers: Tensor, scales: Scales) -> Tensor | None:
        """On which side of the grid numbers lie."""
        low, step = scales["scale"]
        return affine.beyond(numbers, low, step, TOP)

    def pack(self, numbers: Tensor, scales: Scales) -> Packed:
        """Codes and grid."""
        low, step = scales["scale"]
        return {"codes": affine.codes_of(numbers, low, step, TOP).numpy(), "scale": scales["scale"].numpy()}

    def scales_of(self, packed: Packed, shape: tuple[int, ...]) -> Scales:
        """The grid: `scale` f32 (2,)."""
        import numpy as np
        import torch

        scale = np.asarray(packed["scale"])
        if scale.shape != (2,) or scale.dtype != np.float32:
            raise ValueError("its scale has another shape or type than it says")
        return {"scale": torch.from_numpy(scale)}

    def unpack(self, packed: Packed, shape: tuple[int, ...]) -> Tensor:
        """The values f32 of the codes."""
        import numpy as np
        import torch

        codes, (low, step) = np.asarray(packed["codes"]), self.scales_of(packed, shape)["scale"]
        if codes.shape != shape or codes.dtype != np.uint8:
            raise ValueError("its learned numbers have another shape or type than it says")
        return affine.numbers_of(torch.from_numpy(codes), low, step)


def make(scales_every: int, scales_until: int) -> Bytes:
    """Bytes, with when their grid is fitted anew."""
    return Bytes(scales_every, scales_until)
