"""The student's batches, cut from a set of synthetic images, and the way of derivatives back to the images."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from attcli import augment
from attcli.matching.engine import Batch


@dataclass(frozen=True)
class Plan:
    """The draws of one outer iteration: indices (N, B), weights (N, B), one augmentation draw for each of N steps."""

    indices: Tensor
    weights: Tensor
    augmentations: list[augment.Draw]

    def to(self, device: torch.device) -> "Plan":
        """The same draws on a device."""
        return Plan(
            self.indices.to(device),
            self.weights.to(device),
            [augment.Draw(drawn.operation, drawn.uniform.to(device)) for drawn in self.augmentations],
        )


def plan(images: int, batch: int, steps: int, strategy: str, generator: torch.Generator) -> Plan:
    """Draw `steps` batches: every pass over the set is a new permutation cut into chunks of `batch`.

    A pass's last chunk may be short: it is filled up with images of weight 0, so that all batches have one shape.
    """
    batch = min(batch, images)
    chunks = -(-images // batch)
    indices = torch.zeros((steps, batch), dtype=torch.long)
    weights = torch.zeros((steps, batch))
    order = indices[:0]
    for step in range(steps):
        chunk = step % chunks
        if chunk == 0:
            order = torch.randperm(images, generator=generator)
        taken = order[chunk * batch : (chunk + 1) * batch]
        indices[step, : len(taken)] = taken
        weights[step, : len(taken)] = 1 / len(taken)
    return Plan(indices, weights, augment.draw(strategy, steps, batch, generator))


def probabilities(labels: Tensor, classes: int) -> Tensor:
    """Target probabilities (n, K): one-hot for class labels (n,), the softmax of logits (n, K)."""
    if labels.is_floating_point():
        return labels.softmax(dim=1)
    return torch.nn.functional.one_hot(labels, classes)


@dataclass
class SyntheticBatches:
    """The batches of a plan over images (n, C, H, W) with target probabilities (n, K), and their derivatives.

    After an engine has run, `image_gradient` and, where labels are learned logits, `logit_gradient` hold the
    gradient of the matching loss in the set.
    """

    images: Tensor
    targets: Tensor
    plan: Plan
    learned_labels: bool = False
    image_gradient: Tensor = field(init=False)
    logit_gradient: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.image_gradient = torch.zeros_like(self.images)
        self.logit_gradient = torch.zeros_like(self.targets)

    def __len__(self) -> int:
        return len(self.plan.indices)

    def __getitem__(self, step: int) -> Batch:
        index = self.plan.indices[step]
        x = augment.apply(self.plan.augmentations[step], self.images[index])
        return Batch(x, self.targets[index], self.plan.weights[step])

    def pull_back(self, step: int, dx: Tensor, dp: Tensor | None) -> None:
        """Through the augmentation to the images, and through the softmax to the logits."""
        index = self.plan.indices[step]
        with torch.enable_grad():
            images = self.images[index].detach().requires_grad_()
            (found,) = torch.autograd.grad(augment.apply(self.plan.augmentations[step], images), images, dx)
        self.image_gradient.index_add_(0, index, found)
        if dp is not None:
            p = self.targets[index]
            self.logit_gradient.index_add_(0, index, p * (dp - (p * dp).sum(dim=1, keepdim=True)))
