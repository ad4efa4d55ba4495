"""The outer optimiser: one step on each learned tensor of the synthetic set.

SGD with momentum:  v = momentum v + g                                   x -= rate v
Adam (ICLR 2015):   m = b1 m + (1 - b1) g,  s = b2 s + (1 - b2) g^2      x -= rate m' / (sqrt(s') + eps)
with m' = m / (1 - b1^t) and s' = s / (1 - b2^t) after t steps; b1 is the momentum.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Moments = dict[str, Tensor]
"""What an optimiser remembers of a tensor, by name."""


@dataclass(frozen=True)
class Pace:
    """How fast a tensor moves: its learning rate, and its momentum in [0, 1)."""

    rate: float
    momentum: float


@dataclass(frozen=True)
class Sgd:
    """SGD with momentum, as torch defines it."""

    def begin(self, x: Tensor) -> Moments:
        """Velocity zero."""
        return {"velocity": torch.zeros_like(x)}

    def step(self, x: Tensor, gradient: Tensor, moments: Moments, pace: Pace) -> tuple[Tensor, Moments]:
        """The tensor and its moments after one step; the arguments stay as they are."""
        velocity = pace.momentum * moments["velocity"] + gradient
        return x - pace.rate * velocity, {"velocity": velocity}


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction, as torch defines it."""

    beta2: float = 0.999
    eps: float = 1e-8

    def begin(self, x: Tensor) -> Moments:
        """Both moments zero, after no step."""
        return {"first": torch.zeros_like(x), "second": torch.zeros_like(x), "steps": torch.zeros_like(x).sum()}

    def step(self, x: Tensor, gradient: Tensor, moments: Moments, pace: Pace) -> tuple[Tensor, Moments]:
        """The tensor and its moments after one step; the arguments stay as they are."""
        steps = moments["steps"] + 1
        first = pace.momentum * moments["first"] + (1 - pace.momentum) * gradient
        second = self.beta2 * moments["second"] + (1 - self.beta2) * gradient.square()
        scale = (second / (1 - self.beta2**steps)).sqrt() + self.eps
        moved = x - pace.rate * (first / (1 - pace.momentum**steps)) / scale
        return moved, {"first": first, "second": second, "steps": steps}


Optimiser = Sgd | Adam

OPTIMISERS: dict[str, Callable[..., Optimiser]] = {"sgd": Sgd, "adam": Adam}


def step(
    optimiser: Optimiser,
    learned: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    moments: Mapping[str, Moments],
    paces: Mapping[str, Pace],
) -> tuple[dict[str, Tensor], dict[str, Moments]]:
    """Every learned tensor and its moments after one step, by name; all mappings have the same names."""
    moved: dict[str, Tensor] = {}
    remembered: dict[str, Moments] = {}
    for name, x in learned.items():
        moved[name], remembered[name] = optimiser.step(x, gradients[name], moments[name], paces[name])
    return moved, remembered


def averaged(average: Tensor, x: Tensor, decay: float) -> Tensor:
    """The exponential moving average after one more value."""
    return decay * average + (1 - decay) * x
