"""LeNet: two 5x5 convolutions with max pooling and three linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def takes(resolution: int) -> bool:
    """Whether something is left of images of this resolution after the last pool."""
    return resolution >= 4


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """LeNet; below 32x32 its 5x5 kernels are padded by 2, since they would eat the image."""
    from torch import nn

    padding = 0 if resolution >= 32 else 2
    size = resolution
    for _ in range(2):
        size = (size + 2 * padding - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * size * size, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )
