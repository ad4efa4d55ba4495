"""ResNet18 for small images: a 3x3 stem and eight basic blocks, instance norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """ResNet18; a stride that would leave a normalised convolution a map below 2x2 is left out."""
    from torch import nn

    from attcli.networks.blocks import BasicBlock
    from attcli.networks.norms import InstanceNorm, halvings

    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1, bias=False), InstanceNorm(64), nn.ReLU()]
    size, inputs = resolution, 64
    for width, halve in zip((64, 128, 256, 512), [False, *halvings(resolution, 3)], strict=True):
        size = size // 2 if halve else size
        layers += [BasicBlock(inputs, width, 2 if halve else 1), BasicBlock(width, width, 1)]
        inputs = width
    pool = 4 if size >= 4 else size
    size //= pool
    return nn.Sequential(*layers, nn.AvgPool2d(pool), nn.Flatten(), nn.Linear(512 * size * size, classes))
