"""MLP: two hidden layers of 128."""

from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """A multilayer perceptron on the flattened image."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * resolution**2, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )
