"""Pixels: the learned numbers are the images themselves, as every method of the literature began."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.parameterisations import Coded, Space


class Pixels:
    """One learned tensor, `images` (n, C, H, W), in network-input space."""

    images_per_unit = 1
    limits: ClassVar[dict[str, tuple[float, float]]] = {}
    needs_normaliser = False

    def unit(self, channels: int, side: int) -> dict[str, tuple[int, ...]]:
        """An image."""
        return {"images": (channels, side, side)}

    def constant_bytes(self, side: int) -> int:
        """None: there are no constants."""
        return 0

    def encode(self, images: Tensor, labels: Tensor, space: Space) -> Coded:
        """The images themselves."""
        from attcli.parameterisations import Coded

        return Coded({"images": images})

    def decode(self, coded: Coded, space: Space) -> Tensor:
        """The images themselves."""
        return coded.learned["images"]

    def project(self, coded: Coded) -> Coded:
        """Nothing is out of bounds: network inputs have no limits."""
        return coded


def make() -> Pixels:
    """Pixels have no options."""
    return Pixels()
