"""ResNet18 for small images with batch norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """ResNet18 with batch norm; its layers are those of `resnet18`."""
    from attcli.networks.blocks import resnet

    return resnet(channels, classes, resolution, "batch")
