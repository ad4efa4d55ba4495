"""Plain SGD on a flat vector of parameters: what trains MTT's and ATT's experts, and every network that is scored."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attcli import augment
from attcli.data.loader import epoch as batches_of
from attcli.matching.batches import probabilities
from attcli.matching.student import Student, cross_entropy


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


def train_epoch(
    student: Student,
    theta: Tensor,
    optimiser: Optimiser,
    images: Tensor,
    labels: Tensor,
    *,
    classes: int,
    batch: int,
    strategy: str,
    generator: torch.Generator,
) -> tuple[float, float]:
    """One pass over images (N, C, H, W) in a new order, each batch augmented; theta (P,) is updated in place.

    Labels are classes (N,) or logits (N, K). Returns the mean loss and the accuracy in percent, both of the augmented
    batches as they were met.
    """
    order = batches_of(len(images), batch, generator)
    draws = augment.draw(strategy, len(order), batch, generator)
    total = torch.zeros(2, dtype=torch.float64, device=images.device)
    for cpu_index, (operation, uniform) in zip(order, draws, strict=True):
        size = len(cpu_index)
        index = cpu_index.to(images.device)
        x = augment.apply(augment.Draw(operation, uniform[:size]), images[index])
        p = probabilities(labels[index], classes)
        w = x.new_full((size,), 1 / size)
        gradient, logits = student.gradient_and_logits(theta, x, p, w)
        optimiser.step(theta, gradient)
        correct = (logits.argmax(dim=1) == p.argmax(dim=1)).sum()
        total += torch.stack([cross_entropy(logits, p, w) * size, correct]).double()
    loss, accuracy = (total / len(images)).tolist()
    return loss, 100 * accuracy
