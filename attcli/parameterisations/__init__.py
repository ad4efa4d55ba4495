"""How learned numbers become images: one file per choice, found by its name.

A parameterisation encodes real images as learned tensors (which the outer optimiser moves and the moving average
averages) and constants (such as masks), and decodes them into the images that networks see. Images go class by class.
"""

from __future__ import annotations

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


class Parameterisation(Protocol):
    """What a choice offers; its module's `make(**options)` returns one."""

    def images_per_class(self, ipc: int) -> int:
        """How many images per class the learned numbers of `ipc` plain images per class hold."""

    def encode(self, images: Tensor, labels: Tensor) -> Coded:
        """The numbers that stand for network inputs (n, C, H, W) with classes (n,), as closely as it can."""

    def decode(self, coded: Coded) -> Tensor:
        """The network inputs (n, C, H, W) that the numbers stand for; differentiable in the learned ones."""

    def project(self, coded: Coded) -> Coded:
        """The nearest allowed numbers, after an update: clamped or masked where the parameterisation has limits."""


def load(name: str, **options: object) -> Parameterisation:
    """The parameterisation of that name, with its options."""
    parameterisation: Parameterisation = registry.module("parameterisation", name).make(**options)
    return parameterisation


def pull_back(parameterisation: Parameterisation, coded: Coded, gradient: Tensor) -> dict[str, Tensor]:
    """The gradients in the learned tensors, by name, of a loss with this gradient (n, C, H, W) in the images."""
    import torch

    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in coded.learned.items()}
        images = parameterisation.decode(Coded(leaves, coded.constants))
        gradients = torch.autograd.grad(images, list(leaves.values()), gradient)
    return dict(zip(leaves, gradients, strict=True))
