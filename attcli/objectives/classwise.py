"""What objectives share that compare real images with the set's, class by class.

In each iteration some real images and some, or all, of the set's images are drawn for each class. Both undergo the same
operation of DSA with the same parameters, drawn once for each class (DSA, ICML 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt

from attcli.errors import UserError
from attcli.options import Effort, Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attcli.matching.batches import Plan, SyntheticBatches
    from attcli.matching.engine import Batch
    from attcli.matching.step_functions import StepFunctions
    from attcli.objectives import Inputs
    from attcli.settings import Distill


GRADIENT, FORWARD = 1 / 4, 1 / 12
"""What g alone, and a forward sweep, take of the time of g and h together, with three and one of twelve sweeps."""


class OfClasses(Section):
    """The options that these objectives share."""

    real_per_class: PositiveInt = Field(
        256, description="gradient, distribution, cafe: real images of each class that are drawn in an iteration"
    )


def effort(distill: Distill, images: float) -> Effort:
    """What an iteration takes in which so many images go through g and h; it holds a network, and all real images."""
    return Effort(images=images, batch=distill.real_per_class, vectors=1, real=True)


def check_labels(distill: Distill) -> None:
    """UserError where labels are to be learned by an objective whose loss does not depend on them."""
    if distill.labels == "learned":
        raise UserError(
            f"distill.labels learned: the objective {distill.objective} compares images class by class and has no use "
            f"for labels; set distill.labels=hard"
        )


@dataclass(frozen=True)
class Drawn:
    """A batch of each of K classes: indices and weights of real images (K, R), and the plan of the set's, (K, S).

    Classes with fewer real images than R are filled up with images of weight 0.
    """

    real: Tensor
    weights: Tensor
    plan: Plan


class Classes:
    """The real images and those of the set, by class."""

    def __init__(self, inputs: Inputs, real_per_class: int, set_per_class: int | None = None) -> None:
        import torch

        like, self.count = inputs.images, inputs.architecture.classes
        self.real = inputs.data.network_inputs("train", like.device, like.dtype)
        labels = inputs.data.labels["train"]
        self._members = [torch.nonzero(labels == c)[:, 0] for c in range(self.count)]
        self.per_class = len(like) // self.count
        self.real_batch = min(real_per_class, max(map(len, self._members)))
        self.set_batch = min(set_per_class or self.per_class, self.per_class)
        self._strategy = inputs.settings.augment

    def draw(self, generator: torch.Generator) -> Drawn:
        """Different real images of each class, those of the set, and the augmentation of each class."""
        import torch

        from attcli import augment
        from attcli.matching.batches import Plan

        real = torch.zeros((self.count, self.real_batch), dtype=torch.long)
        weights = torch.zeros((self.count, self.real_batch), dtype=torch.float64)
        for c, members in enumerate(self._members):
            taken = members[torch.randperm(len(members), generator=generator)[: self.real_batch]]
            real[c, : len(taken)] = taken
            weights[c, : len(taken)] = 1 / len(taken)
        own = torch.arange(self.count * self.per_class).view(self.count, self.per_class)
        if self.set_batch < self.per_class:
            order = torch.rand(own.shape, generator=generator).argsort(dim=1)
            own = own.gather(1, order[:, : self.set_batch])
        drawn = augment.draw(self._strategy, self.count, 1, generator)
        if drawn.uniform.numel():
            drawn = replace(drawn, uniform=drawn.uniform.expand(-1, self.set_batch, -1))
        even = torch.full(own.shape, 1 / self.set_batch, dtype=torch.float64)
        return Drawn(real, weights, Plan(own, even, drawn))

    def some(self, per_class: int, generator: torch.Generator) -> Tensor:
        """Indices of so many different real images of each class, or of all where there are fewer."""
        import torch

        return torch.cat([m[torch.randperm(len(m), generator=generator)[:per_class]] for m in self._members])

    def of_real(self, drawn: Drawn, c: int) -> Batch:
        """The real images of a class, augmented: x (R, C, H, W), their class as p (R, K), and weights w (R,)."""
        import torch
        from torch.nn import functional as F

        from attcli import augment
        from attcli.matching.engine import Batch

        x = self.real[drawn.real[c].to(self.real.device)]
        operation, uniform = drawn.plan.augmentations[c]
        if operation:
            x = augment.apply(augment.Draw(operation, uniform[:1].expand(len(x), -1)), x)
        p = F.one_hot(torch.full((len(x),), c, device=x.device), self.count)
        return Batch(x, p.to(x), drawn.weights[c].to(x))

    def of_set(self, drawn: Drawn, images: Tensor, labels: Tensor, *, learned: bool = False) -> SyntheticBatches:
        """The set's batches, one for each class, and the way back from them to images and logits."""
        from attcli.matching.batches import SyntheticBatches, probabilities

        targets = probabilities(labels, self.count).to(images)
        return SyntheticBatches(images, targets, drawn.plan.to(images.device), learned_labels=learned)


def steps(inputs: Inputs, batch: int, images: int, *, short: int = 0, derivatives: bool = False) -> StepFunctions:
    """The student's step functions for batches of so many images, `images` of them in all, the last one `short`."""
    from attcli import execution
    from attcli.objectives.trajectory import steps_for

    work = execution.Work(
        image=tuple(inputs.images.shape[1:]),
        classes=inputs.architecture.classes,
        batch=batch,
        images=images,
        short=short,
        derivatives=derivatives,
        labels=derivatives and inputs.settings.labels == "learned",
        dtype=inputs.images.dtype,
    )
    return steps_for(inputs, work)


def use_threads(inputs: Inputs, batch: int) -> None:
    """Let torch compute with the CPU threads that batches of so many images get."""
    from attcli import execution

    work = execution.Work(tuple(inputs.images.shape[1:]), inputs.architecture.classes, batch, batch, derivatives=True)
    execution.use_threads(inputs.execution.threads, inputs.architecture.build, work)


def facts(step: int) -> dict[str, Any]:
    """What the history keeps of an iteration without experts; step: the image step of its network, from 1."""
    import numpy as np

    none = np.zeros(0, np.float32)
    return {"expert": -1, "start_epoch": -1, "step": step, "l1": none, "l2": none}
