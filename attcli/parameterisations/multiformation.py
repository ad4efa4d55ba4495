"""Multi-formation (IDC, ICML 2022): one image of the set holds factor x factor smaller ones, which are enlarged.

An image is cut into cells of c = ceil(side / factor) pixels a side, row by row, filled up with grey (0.5) below and to
the right where the side is no multiple of the factor. A cell X is enlarged to U X U^T, U (side, c) being linear
interpolation with pixel centres. Learned values are those of images in [0, 1]; normalising comes after enlarging, and
is part of what gradients pass through, ZCA included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from attcli.errors import UserError
from attcli.options import Section

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.parameterisations import Coded, Space

GREY = 0.5


class Options(Section):
    """The options of multi-formation."""

    factor: int = Field(
        2, ge=1, le=4, description="multiformation: a stored picture holds factor x factor smaller images"
    )


class Multiformation:
    """One learned tensor, `cells` (n / factor^2, C, H, W), images in [0, 1] that are cut into cells."""

    limits: ClassVar[dict[str, tuple[float, float]]] = {"cells": (0.0, 1.0)}
    needs_normaliser = True

    def __init__(self, factor: int) -> None:
        self._factor = factor

    @property
    def images_per_unit(self) -> int:
        """The cells of an image."""
        return self._factor**2

    def unit(self, channels: int, side: int) -> dict[str, tuple[int, ...]]:
        """An image that is cut into cells. UserError where cells would be smaller than 4 pixels a side."""
        if self._cell(side) < 4:
            raise UserError(f"distill.factor {self._factor} leaves too little of images of {side}x{side}; lower it")
        return {"cells": (channels, side, side)}

    def _cell(self, side: int) -> int:
        return -(-side // self._factor)

    def constant_bytes(self, side: int) -> int:
        """None: there are no constants."""
        return 0

    def encode(self, images: Tensor, labels: Tensor, space: Space) -> Coded:
        """The images, taken back to [0, 1] and averaged down to cells."""
        from torch.nn import functional as F

        from attcli.parameterisations import Coded

        cell, factor, side = self._cell(space.side), self._factor, space.side
        plain = space.known.inverse(images).clamp(0, 1)
        small = F.adaptive_avg_pool2d(plain, cell)
        grid = small.view(-1, factor, factor, space.channels, cell, cell).permute(0, 3, 1, 4, 2, 5)
        whole = grid.reshape(-1, space.channels, factor * cell, factor * cell)
        return Coded({"cells": whole[..., :side, :side].contiguous()})

    def decode(self, coded: Coded, space: Space) -> Tensor:
        """The cells, enlarged and normalised."""
        from torch.nn import functional as F

        kept, cell, factor, side = coded.learned["cells"], self._cell(space.side), self._factor, space.side
        missing = factor * cell - side
        whole = F.pad(kept, (0, missing, 0, missing), value=GREY)
        grid = whole.view(len(kept), space.channels, factor, cell, factor, cell).permute(0, 2, 4, 1, 3, 5)
        cells = grid.reshape(-1, space.channels, cell, cell)
        enlarge = _interpolation(cell, side, kept)
        return space.known.forward(enlarge @ cells @ enlarge.T)

    def project(self, coded: Coded) -> Coded:
        """Values in [0, 1]."""
        from attcli.parameterisations import Coded

        return Coded({name: x.clamp(0, 1) for name, x in coded.learned.items()}, coded.constants)


def _interpolation(cell: int, side: int, like: Tensor) -> Tensor:
    """The matrix U (side, cell) that enlarges a row of pixels by linear interpolation.

    A product of matrices is the same on every device, and has a derivative that adds up in a fixed order.
    """
    import torch
    from torch.nn import functional as F

    unit = torch.eye(cell, dtype=torch.float64).unsqueeze(0)
    return F.interpolate(unit, size=side, mode="linear", align_corners=False)[0].T.to(like)


def make(factor: int) -> Multiformation:
    """Multi-formation with its factor."""
    return Multiformation(factor)
