"""float32: four bytes per number, which is what `ipc` counts in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attcli.storage import Packed


class Floats:
    """Numbers kept in a floating-point type that numpy knows."""

    def __init__(self, kept: torch.dtype) -> None:
        self._kept = kept

    def rounded(self, numbers: Tensor) -> Tensor:
        """The numbers themselves where they are of the kept type already."""
        return numbers if numbers.dtype == self._kept else numbers.to(self._kept).to(numbers.dtype)

    def pack(self, numbers: Tensor) -> Packed:
        """One array, `values`."""
        return {"values": numbers.to(self._kept).numpy()}

    def unpack(self, packed: Packed) -> Tensor:
        """The values."""
        import numpy as np
        import torch

        return torch.from_numpy(np.asarray(packed["values"]))


def make() -> Floats:
    """Four bytes per number."""
    import torch

    return Floats(torch.float32)
