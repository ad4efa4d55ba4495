"""MLP: two hidden layers of 128."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """A multilayer perceptron on the flattened image."""
    from torch import nn

    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * resolution**2, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )
