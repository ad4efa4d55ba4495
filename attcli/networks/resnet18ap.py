"""ResNet18 for small images with mean pools in place of strides, and none at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """ResNet18_AP of the literature, with instance norm."""
    from attcli.networks.blocks import resnet

    return resnet(channels, classes, resolution, "instance", pooled=True)
