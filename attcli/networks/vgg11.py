"""VGG11 for small images: eight normalised 3x3 convolutions and one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


PLAN: tuple[int | str, ...] = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """VGG11 with instance norm; pools that would leave a normalised convolution a map below 2x2 are left out."""
    from torch import nn

    from attcli.networks.norms import InstanceNorm, halvings

    layers: list[nn.Module] = []
    size, inputs = resolution, channels
    pools = iter([*halvings(resolution, PLAN.count("pool") - 1), True])
    for entry in PLAN:
        if isinstance(entry, int):
            layers += [nn.Conv2d(inputs, entry, 3, padding=1), InstanceNorm(entry), nn.ReLU()]
            inputs = entry
        elif next(pools):
            layers.append(nn.MaxPool2d(2))
            size //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * size * size, classes))
