"""VGG11 for small images with batch norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """VGG11 with batch norm; its layers are those of `vgg11`."""
    from attcli.networks.blocks import vgg

    return vgg(channels, classes, resolution, "batch")
