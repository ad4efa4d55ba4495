"""How learned numbers become images: one file per choice, found by its name.

A parameterisation encodes real images as learned tensors (which the outer optimiser moves and the moving average
averages) and constants (such as masks), and decodes them into the images that networks see. Learned tensors consist of
equal units, class by class: a unit is what an image, or a fixed number of images, is kept as. Images go class by class.
Modules are imported without torch, so that settings can be checked in no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from attcli import registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Coded:
    """A set of images as a parameterisation keeps it: learned tensors and constants, each by name."""

    learned: dict[str, Tensor]
    constants: dict[str, Tensor] = field(default_factory=dict)


class Normaliser(Protocol):
    """From images (n, C, H, W) in [0, 1] to network inputs, and back; differentiable."""

    def forward(self, images: Tensor) -> Tensor:
        """Images to network inputs."""

    def inverse(self, inputs: Tensor) -> Tensor:
        """Network inputs to images; values may lie outside [0, 1]."""


@dataclass(frozen=True)
class Space:
    """The images that networks see: `channels` of `side` x `side`, and the normaliser that makes them.

    The normaliser is None where it is not at hand; only a parameterisation whose `needs_normaliser` is False can be
    encoded and decoded then.
    """

    channels: int
    side: int
    normaliser: Normaliser | None = None

    @property
    def known(self) -> Normaliser:
        """The normaliser. ValueError where it is not at hand."""
        if self.normaliser is None:
            raise ValueError("the normaliser of the images is not at hand")
        return self.normaliser


class Parameterisation(Protocol):
    """What a choice offers; its module's `make(**options)` returns one."""

    @property
    def images_per_unit(self) -> int:
        """How many images one unit is decoded to."""

    @property
    def limits(self) -> Mapping[str, tuple[float, float]]:
        """The smallest and the largest allowed number, for those learned tensors that have limits."""

    @property
    def needs_normaliser(self) -> bool:
        """Whether encoding and decoding go through values in [0, 1]."""

    def unit(self, channels: int, side: int) -> dict[str, tuple[int, ...]]:
        """The shape of one unit's part of each learned tensor. UserError where images of this size can't be kept."""

    def constant_bytes(self, side: int) -> int:
        """The bytes per class of constants."""

    def encode(self, images: Tensor, labels: Tensor, space: Space) -> Coded:
        """The numbers that stand for network inputs (n, C, H, W) with classes (n,), as closely as it can.

        There are as many images of each class as full units hold.
        """

    def decode(self, coded: Coded, space: Space) -> Tensor:
        """The network inputs (n, C, H, W) that the numbers stand for; differentiable in the learned ones."""

    def project(self, coded: Coded) -> Coded:
        """The nearest allowed numbers, after an update: clamped or masked where the parameterisation has limits."""


def load(name: str, **options: object) -> Parameterisation:
    """The parameterisation of that name, with its options."""
    parameterisation: Parameterisation = registry.module("parameterisation", name).make(**options)
    return parameterisation


def pull_back(parameterisation: Parameterisation, coded: Coded, space: Space, gradient: Tensor) -> dict[str, Tensor]:
    """The gradients in the learned tensors, by name, of a loss with this gradient (n, C, H, W) in the images."""
    import torch

    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in coded.learned.items()}
        images = parameterisation.decode(Coded(leaves, coded.constants), space)
        gradients = torch.autograd.grad(images, list(leaves.values()), gradient)
    return dict(zip(leaves, gradients, strict=True))
