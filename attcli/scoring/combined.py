"""SelMatch's combined augmentation (ICML 2024): real and distilled images of a set are augmented differently.

A real image is shifted by up to 4 pixels in each direction, filled up with zeros, and mirrored half of the time. A
distilled one undergoes one operation of DSA, which is drawn for each image alone, not for a batch.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from attcli import augment
from attcli.data.inputs import Inputs
from attcli.scoring.protocol import Protocol

COMBINED = "evaluate-combined"
"""What the draws of images that are augmented in a way of their own are seeded for."""

SHIFT = 4
"""Pixels by which a real image is shifted at most."""


@dataclass(frozen=True)
class Combined:
    """Images (n, C, H, W) that are augmented whenever they are read; which ones are real is `real` (n,)."""

    images: Inputs
    real: Tensor
    strategy: str
    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    @property
    def shape(self) -> torch.Size:
        """(n, C, H, W)."""
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The images with these indices (B,), augmented by new draws."""
        x, real = self.images[index], self.real[index]
        uniform = torch.rand((len(index), augment.UNIFORMS), generator=self.generator).to(x)
        seen = torch.where(real.view(-1, 1, 1, 1), _as_real(x, uniform), x)
        for part, names in enumerate(augment.parts(self.strategy)):
            if part:
                uniform = torch.rand((len(index), augment.UNIFORMS), generator=self.generator).to(x)
            picked = torch.randint(len(names), (len(index),), generator=self.generator).to(index)
            for number, name in enumerate(names):
                (rows,) = torch.nonzero((picked == number) & ~real, as_tuple=True)
                seen[rows] = augment.apply(augment.Draw(name, uniform[rows]), seen[rows])
        return seen


def as_met(images: Inputs, real: Tensor, protocol: Protocol, generator: torch.Generator) -> tuple[Inputs, Protocol]:
    """Images as networks meet them, and the protocol that augments them if they are not augmented already.

    `real` (n,) says which of them were not distilled.
    """
    if not protocol.combined:
        return images, protocol
    return cast(Inputs, Combined(images, real, protocol.augment, generator)), replace(protocol, augment="none")


def _as_real(x: Tensor, uniform: Tensor) -> Tensor:
    mirrored = torch.where((uniform[:, 2] < 0.5).view(-1, 1, 1, 1), x.flip(3), x)
    return augment.shifted(mirrored, uniform, (SHIFT, SHIFT))
