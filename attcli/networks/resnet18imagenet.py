"""ResNet18 with the stem that it has on ImageNet, instance norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """ResNet18: two basic blocks in each stage."""
    from attcli.networks.blocks import imagenet_resnet

    return imagenet_resnet(channels, classes, resolution, (2, 2, 2, 2))
