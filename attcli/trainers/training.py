"""SGD on a flat vector of parameters: what trains every expert, and every network that is scored."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attcli import augment
from attcli.data.inputs import Inputs
from attcli.matching.batches import plan, probabilities
from attcli.matching.step_functions import StepFunctions
from attcli.matching.student import cross_entropy


@dataclass
class Optimiser:
    """SGD as torch defines it: v = momentum v + (g + weight_decay theta), theta -= lr v. Updates theta in place."""

    lr: float
    momentum: float
    weight_decay: float
    velocity: Tensor | None = None

    def step(self, theta: Tensor, gradient: Tensor) -> None:
        """One update of theta (P,) by the loss's gradient (P,), which is used up."""
        if self.weight_decay:
            gradient = gradient.add_(theta, alpha=self.weight_decay)
        if self.momentum:
            if self.velocity is None:
                self.velocity = torch.zeros_like(theta)
            gradient = self.velocity.mul_(self.momentum).add_(gradient)
        theta.sub_(gradient, alpha=self.lr)


Descent = Callable[[StepFunctions, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(step functions, theta, x, p, w) to the direction (P,) that a step descends, and the outputs (B, K) at theta."""


def along_the_gradient(
    step_functions: StepFunctions, theta: Tensor, x: Tensor, p: Tensor, w: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss's gradient at theta: plain SGD."""
    return step_functions.gradient_and_logits(theta, x, p, w)


def train_epoch(
    step_functions: StepFunctions,
    theta: Tensor,
    optimiser: Optimiser,
    images: Inputs,
    labels: Tensor,
    *,
    classes: int,
    batch: int,
    strategy: str,
    generator: torch.Generator,
    descent: Descent = along_the_gradient,
    met: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
    """One pass over images (N, C, H, W) in a new order, each batch augmented; theta (P,) is updated in place.

    Labels are classes (N,) or logits (N, K). Returns the mean loss and the accuracy in percent (2,) in float64, both of
    the augmented batches as they were met; asking for their values is what waits for a GPU, not this function. `met` is
    told each batch's images (n,) and whether the network, before it learned from them, got them right (n,).
    """
    batch = min(batch, len(images))
    drawn = plan(len(images), batch, -(-len(images) // batch), strategy, generator).to(images.device)
    total = torch.zeros(2, dtype=torch.float64, device=images.device)
    for i, index in enumerate(drawn.indices):
        x = augment.apply(drawn.augmentations[i], images[index])
        p, w = probabilities(labels[index], classes).to(x), drawn.weights[i]
        direction, logits = descent(step_functions, theta, x, p, w)
        optimiser.step(theta, direction)
        right = logits.argmax(dim=1) == p.argmax(dim=1)
        correct = (right & (w > 0)).sum()
        size = min(batch, len(images) - i * batch)
        total += torch.stack([cross_entropy(logits, p, w) * size, 100 * correct]).double()
        if met is not None:
            met(index[:size], right[:size])
    return total / len(images)
