"""ResNet with the stem of ImageNet and one basic block in each stage, instance norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """The literature's "ResNet6": one basic block in each stage."""
    from attcli.networks.blocks import imagenet_resnet

    return imagenet_resnet(channels, classes, resolution, (1, 1, 1, 1))
