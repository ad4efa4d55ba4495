"""What the floating-point storages share: a number is kept in a type of 16, 32 or 64 bits."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attcli.storage import Limits, Packed, Scales


class Floats:
    """Numbers kept in the floating-point type of a name, as one array, `values`.

    numpy has no bfloat16: its bits are kept as u16.
    """

    def __init__(self, name: str, bits: int) -> None:
        self._name, self._bits = name, bits

    @property
    def _kept(self) -> torch.dtype:
        import torch

        dtype: torch.dtype = getattr(torch, self._name)
        return dtype

    def bits(self, shape: tuple[int, ...]) -> int:
        """All numbers' bits."""
        return self._bits * prod(shape)

    def size(self, shape: tuple[int, ...]) -> int:
        """All numbers' bytes."""
        return self.bits(shape) // 8

    def fit(self, numbers: Tensor, limits: Limits | None) -> Scales:
        """No scales."""
        return {}

    def scales_of(self, packed: Packed, shape: tuple[int, ...]) -> Scales:
        """No scales."""
        return {}

    def refits(self, iteration: int) -> bool:
        """Never."""
        return False

    def rounded(self, numbers: Tensor, scales: Scales) -> Tensor:
        """The numbers themselves where they are of the kept type already; what is too large becomes the largest."""
        return numbers if numbers.dtype == self._kept else self._cast(numbers).to(numbers.dtype)

    def _cast(self, numbers: Tensor) -> Tensor:
        import torch

        largest = min(torch.finfo(self._kept).max, torch.finfo(numbers.dtype).max)
        return numbers.clamp(-largest, largest).to(self._kept)

    def beyond(self, numbers: Tensor, scales: Scales) -> Tensor | None:
        """None, but for what a narrower type can't hold."""
        import torch

        largest = torch.finfo(self._kept).max
        if largest >= torch.finfo(numbers.dtype).max:
            return None
        return (numbers > largest).to(torch.int8) - (numbers < -largest).to(torch.int8)

    def pack(self, numbers: Tensor, scales: Scales) -> Packed:
        """One array, `values`."""
        import numpy as np
        import torch

        kept = self._cast(numbers)
        if kept.dtype == torch.bfloat16:
            return {"values": kept.view(torch.int16).numpy().view(np.uint16)}
        return {"values": kept.numpy()}

    def unpack(self, packed: Packed, shape: tuple[int, ...]) -> Tensor:
        """The values, as float32 where they are kept in fewer bits."""
        import numpy as np
        import torch

        values = np.ascontiguousarray(packed["values"])
        bits_of_bfloat16 = self._kept == torch.bfloat16
        if values.shape != shape or values.dtype != ("uint16" if bits_of_bfloat16 else self._name):
            raise ValueError("its learned numbers have another shape or type than it says")
        if bits_of_bfloat16:
            return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16).float()
        return torch.from_numpy(values.astype(np.float32) if self._bits < 32 else values)
