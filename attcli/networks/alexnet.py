"""AlexNet for small images: five convolutions, three max pools, no norm, one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def takes(resolution: int) -> bool:
    """Whether something is left of images of this resolution after the last pool."""
    return resolution >= 8


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """AlexNet as the literature cuts it down to 32x32; 28x28 images are padded to 32x32 by the first convolution."""
    from torch import nn

    padding = 4 if resolution == 28 else 2
    size = (resolution + 2 * padding - 4) // 8
    return nn.Sequential(
        nn.Conv2d(channels, 128, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(192, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 192, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(192, 192, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(192 * size * size, classes),
    )
