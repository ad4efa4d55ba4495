"""What a network computes of images on its way to the outputs: its features, and the outputs of earlier layers.

A network's features are the inputs of its last linear layer, which is the one that gives the network's outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attcli.matching.parameters import vector
from attcli.matching.student import Student

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Tanh)
"""Layers whose outputs are tapped."""


class NoFeaturesError(Exception):
    """A network whose outputs are not those of a linear layer."""


def last_linear(student: Student, x: Tensor) -> nn.Linear:
    """The linear layer whose output for images x (B, C, H, W) is the network's own. NoFeaturesError where none is."""
    met: list[tuple[nn.Linear, Tensor]] = []

    def note(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        met.append((layer, output.to(x.dtype)))

    handles = [part.register_forward_hook(note) for part in student.module.modules() if isinstance(part, nn.Linear)]
    try:
        with torch.no_grad():
            logits = student.logits(vector(student.module).to(x), x)
    finally:
        for handle in handles:
            handle.remove()
    for layer, output in reversed(met):
        if torch.equal(output, logits):
            return layer
    raise NoFeaturesError


@dataclass(frozen=True)
class Taps:
    """Reads a student's layers: the outputs of `layers`, in the order in which they are met, then its features.

    Each is (B, D) for B images, with D numbers an image, whatever its shape in the network.
    """

    student: Student
    last: nn.Linear
    layers: tuple[nn.Module, ...] = ()

    @classmethod
    def of(cls, student: Student, x: Tensor, *, activations: bool = False) -> "Taps":
        """Those of a student for images like x (B, C, H, W): its features, and before them, if asked for, activations.

        Activations are the layers of that kind anywhere in the network. NoFeaturesError where it has no features.
        """
        layers = [part for part in student.module.modules() if isinstance(part, ACTIVATIONS)] if activations else []
        return cls(student, last_linear(student, x), tuple(layers))

    def at(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        """The taps of images x (B, C, H, W) at parameters theta (P,); differentiable in both."""
        met: list[Tensor] = []
        features: list[Tensor] = []

        def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            met.append(output.flatten(1).to(x.dtype))

        def note_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            features.append(inputs[0].flatten(1).to(x.dtype))

        handles = [layer.register_forward_hook(note) for layer in self.layers]
        handles.append(self.last.register_forward_pre_hook(note_input))
        try:
            self.student.logits(theta, x)
        finally:
            for handle in handles:
                handle.remove()
        return [*met, features[-1]]

    def read(self, theta: Tensor, x: Tensor, size: int) -> list[Tensor]:
        """The taps of images, without a graph, computed for `size` images at a time."""
        with torch.no_grad():
            parts = [self.at(theta, part) for part in x.split(size)]
        return [torch.cat(of_tap) for of_tap in zip(*parts, strict=True)]

    def pulled_back(self, theta: Tensor, x: Tensor, seeds: Callable[[int, int], list[Tensor]], size: int) -> Tensor:
        """The derivative in images x (B, C, H, W) of a loss whose derivatives in the taps are `seeds(first, end)`.

        It is computed for `size` images at a time, for which the seeds are asked.
        """
        derivative = torch.empty_like(x)
        for first in range(0, len(x), size):
            end = min(first + size, len(x))
            with torch.enable_grad():
                part = x[first:end].detach().requires_grad_()
                taps = self.at(theta, part)
                (derivative[first:end],) = torch.autograd.grad(taps, part, seeds(first, end))
        return derivative
