"""Pixels: the learned numbers are the images themselves, as every method of the literature began."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.parameterisations import Coded


class Pixels:
    """One learned tensor, `images` (n, C, H, W), in network-input space."""

    def images_per_class(self, ipc: int) -> int:
        """As many as are paid for."""
        return ipc

    def encode(self, images: Tensor, labels: Tensor) -> Coded:
        """The images themselves."""
        from attcli.parameterisations import Coded

        return Coded({"images": images})

    def decode(self, coded: Coded) -> Tensor:
        """The images themselves."""
        return coded.learned["images"]

    def project(self, coded: Coded) -> Coded:
        """Nothing is out of bounds: network inputs have no limits."""
        return coded


def make() -> Pixels:
    """Pixels have no options."""
    return Pixels()
