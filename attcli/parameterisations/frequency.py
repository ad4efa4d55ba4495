"""Frequencies (FreD, NeurIPS 2023): of each image a few coefficients of its cosine transform are learned.

An image's channel X is D^T (M . C) D, where D is the orthonormal DCT-II matrix (N, N), D[k, i] = a_k cos(pi (2 i + 1) k
/ 2N) with a_0 = sqrt(1 / N) and a_k = sqrt(2 / N), C are coefficients and M is a mask. A class keeps the frequencies
whose coefficient, averaged over channels, varies most over its initial images. Coefficients are those of network
inputs.

FreD's transform is not orthonormal. A step of its size in its coefficients is one of size / (2N)^2 here where both
indices are above 0 (half of that where one of them is 0, a quarter at (0, 0)): its 1e8 at 32 pixels is 24,414.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from attcli.errors import UserError
from attcli.options import Section

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.parameterisations import Coded, Space


class Options(Section):
    """The options of frequencies."""

    frequencies: int = Field(
        64, ge=1, le=65_536, description="frequency: how many frequencies of each channel of an image are kept"
    )


class Frequency:
    """Learned: `coefficients` (n, C, m). Constant: `mask` u8 (K, bytes), a bit per frequency, 1 where it is kept."""

    images_per_unit = 1
    limits: ClassVar[dict[str, tuple[float, float]]] = {}
    needs_normaliser = False

    def __init__(self, frequencies: int) -> None:
        self._kept = frequencies

    def unit(self, channels: int, side: int) -> dict[str, tuple[int, ...]]:
        """An image's coefficients. UserError where there are fewer frequencies than are to be kept."""
        if self._kept > side**2:
            raise UserError(
                f"distill.frequencies {self._kept} is more than the {side**2} of images of {side}x{side}; lower it"
            )
        return {"coefficients": (channels, self._kept)}

    def constant_bytes(self, side: int) -> int:
        """The mask's: a bit per frequency."""
        return -(-(side**2) // 8)

    def encode(self, images: Tensor, labels: Tensor, space: Space) -> Coded:
        """The coefficients of the frequencies that vary most within each class; for a single image, of the largest."""
        import torch

        from attcli.parameterisations import Coded

        transform = _transform(space.side, images)
        spectrum = (transform @ images @ transform.T).flatten(2)
        classes = int(labels.max()) + 1
        mask = torch.zeros(classes, spectrum.shape[-1], dtype=torch.bool, device=images.device)
        for c in range(classes):
            of_class = spectrum[labels == c].mean(dim=1).double()
            spread = of_class.var(dim=0) if len(of_class) > 1 else of_class[0].square()
            mask[c, spread.argsort(descending=True, stable=True)[: self._kept]] = True
        kept = mask.nonzero()[:, 1].view(classes, self._kept)
        places = kept[labels].unsqueeze(1).expand(-1, space.channels, -1)
        return Coded({"coefficients": spectrum.gather(2, places)}, {"mask": _packed(mask)})

    def decode(self, coded: Coded, space: Space) -> Tensor:
        """The inverse transform of the coefficients. ValueError where the mask is not one of these coefficients."""
        kept, side = coded.learned["coefficients"], space.side
        mask = _unpacked(coded.constants["mask"], side**2)
        if (mask.sum(dim=1) != kept.shape[-1]).any() or len(kept) % len(mask):
            raise ValueError("the mask keeps another number of frequencies than there are coefficients")
        places = mask.nonzero()[:, 1].view(len(mask), -1).repeat_interleave(len(kept) // len(mask), dim=0)
        spectrum = kept.new_zeros(*kept.shape[:2], side**2).scatter(2, places.unsqueeze(1).expand_as(kept), kept)
        transform = _transform(side, kept)
        images: Tensor = transform.T @ spectrum.view(*kept.shape[:2], side, side) @ transform
        return images

    def project(self, coded: Coded) -> Coded:
        """Coefficients have no limits, and those that are masked are not learned."""
        return coded


def _transform(side: int, like: Tensor) -> Tensor:
    """The orthonormal DCT-II matrix (side, side)."""
    import torch

    index = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / (2 * side) * index.unsqueeze(1) * (2 * index + 1)) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)


def _packed(mask: Tensor) -> Tensor:
    """A mask (K, F) as bytes u8 (K, ceil(F / 8)), the first frequency in the highest bit."""
    import numpy as np
    import torch

    return torch.from_numpy(np.packbits(mask.cpu().numpy(), axis=1)).to(mask.device)


def _unpacked(packed: Tensor, count: int) -> Tensor:
    """The mask again, bool (K, count). ValueError where it has another size."""
    import torch

    if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] != -(-count // 8):
        raise ValueError("the mask has another size than the images")
    bits = packed.unsqueeze(-1) >> torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device) & 1
    return bits.flatten(1)[:, :count].bool()


def make(frequencies: int) -> Frequency:
    """Frequencies, with how many are kept."""
    return Frequency(frequencies)
