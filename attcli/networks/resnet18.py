"""ResNet18 for small images: a 3x3 stem and eight basic blocks, instance norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """ResNet18 with instance norm."""
    from attcli.networks.blocks import resnet

    return resnet(channels, classes, resolution, "instance")
