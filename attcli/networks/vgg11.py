"""VGG11 for small images: eight normalised 3x3 convolutions and one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """VGG11 with instance norm."""
    from attcli.networks.blocks import vgg

    return vgg(channels, classes, resolution, "instance")
