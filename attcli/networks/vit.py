"""A small vision transformer (after ICLR 2021's ViT): four blocks of width 128, pre-norm, its patches averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

WIDTH, DEPTH, HEADS = 128, 4, 4
FEWEST, MOST = 7, 16
"""Patches on a side; images below 28x28 may have fewer, down to 4, so that a patch is more than a pixel."""


def patch_for(resolution: int) -> int | None:
    """The pixels on a patch's side: the most that give enough patches; None where that is more than 16 on a side."""
    fewest = FEWEST if resolution >= 28 else 4
    fits = [size for size in range(1, resolution + 1) if resolution % size == 0 and resolution // size >= fewest]
    return max(fits) if fits and resolution // max(fits) <= MOST else None


def takes(resolution: int) -> bool:
    """Whether it can be built for images of this resolution."""
    return patch_for(resolution) is not None


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """A ViT of about 800,000 parameters; patches grow with the images, so that there are 16 to 256 of them."""
    from torch import nn

    from attcli.networks.attention import Block, Mean, Patches
    from attcli.networks.norms import LayerNorm

    patch = patch_for(resolution)
    if patch is None:
        raise ValueError(resolution)
    return nn.Sequential(
        Patches(channels, WIDTH, patch, (resolution // patch) ** 2),
        *(Block(WIDTH, HEADS) for _ in range(DEPTH)),
        LayerNorm(WIDTH),
        Mean(),
        nn.Linear(WIDTH, classes),
    )
