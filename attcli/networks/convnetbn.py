"""ConvNet with batch norm: the network that "ConvNetBN" names in the literature's comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """`convnet` with norm=batch, in the literature's depth and width."""
    from attcli.networks import convnet

    return convnet.build(channels, classes, resolution, norm="batch")
