"""The parameters of a network as one flat vector, in module order."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Where each parameter of a network stands in the flat vector of length P (buffers are not part of it)."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, module: nn.Module) -> "Layout":
        """The layout of `module`'s parameters."""
        named = list(module.named_parameters())
        return cls(tuple(name for name, _ in named), tuple(tuple(p.shape) for _, p in named))

    @property
    def sizes(self) -> list[int]:
        """The number of values of each parameter."""
        return [prod(shape) for shape in self.shapes]

    @property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes)

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Named tensors as a new vector (P,)."""
        return torch.cat([parameters[name].reshape(-1) for name in self.names])

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """A vector (P,) as named views of itself.

        Split, not sliced: the derivative of a split is one concatenation, that of n slices n zero-filled vectors.
        """
        pieces = theta.split(self.sizes)
        return {name: piece.view(shape) for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)}


def vector(module: nn.Module) -> Tensor:
    """The parameters of `module`, copied into one vector (P,)."""
    return Layout.of(module).flatten(dict(module.named_parameters())).detach()
