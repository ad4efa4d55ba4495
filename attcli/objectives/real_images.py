"""The real images on which a student's loss is taken: which are drawn, and the loss with its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, PositiveInt

from attcli.options import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attcli.augment import Draw
    from attcli.matching.step_functions import StepFunctions
    from attcli.objectives import Inputs


class RealOptions(Section):
    """The options of objectives whose loss is taken on real images."""

    real_batch: PositiveInt = Field(
        500, description="real-loss, label-distillation: number of real images on which the loss is computed"
    )
    real_augment: str = Field(
        "none",
        description="real-loss, label-distillation: augmentation (DSA) of the real images, written as for "
        "buffer.augment",
    )


class Tested(NamedTuple):
    """What chance decides: the indices of real images (B,), and their augmentation."""

    images: Tensor
    augmentation: Draw


class Loss(NamedTuple):
    """The loss on real images, its gradient in the parameters (P,), and the share of wrong answers."""

    value: Tensor
    gradient: Tensor
    error: Tensor


class RealImages:
    """The training images of a dataset, and a student's loss on some of them."""

    def __init__(self, inputs: Inputs) -> None:
        like, self._settings = inputs.images, inputs.settings
        self._classes = inputs.architecture.classes
        self._images = inputs.data.network_inputs("train", like.device, like.dtype)
        self._labels = inputs.data.labels["train"]
        self._count = min(inputs.settings.real_batch, len(self._labels))
        self._step_functions = _step_functions(inputs, self._count)

    def draw(self, generator: torch.Generator) -> Tested:
        """Draw images, as many of each class as far as that goes; of some classes one more is drawn."""
        import torch

        from attcli import augment
        from attcli.data.inputs import of_each_class

        have = self._labels.bincount(minlength=self._classes)
        each = (torch.full_like(have, self._count // self._classes)).minimum(have)
        with_room = torch.nonzero(each < have)[:, 0]
        more = with_room[torch.randperm(len(with_room), generator=generator)[: self._count % self._classes]]
        each[more] += 1
        index = of_each_class(self._labels, each.tolist(), generator)
        return Tested(index, augment.draw(self._settings.real_augment, 1, len(index), generator)[0])

    def batch(self, drawn: Tested, like: Tensor) -> tuple[Tensor, Tensor]:
        """The drawn images (B, C, H, W), augmented, and their classes (B,); both are on the device of `like`."""
        from attcli import augment

        x = augment.apply(drawn.augmentation, self._images[drawn.images.to(like.device)].to(like))
        return x, self._labels[drawn.images].to(like.device)

    def loss(self, theta: Tensor, drawn: Tested) -> Loss:
        """The loss at parameters theta (P,) on the drawn images."""
        from attcli.matching.batches import probabilities

        x, y = self.batch(drawn, theta)
        p = probabilities(y, self._classes).to(theta)
        weights = theta.new_full((len(x),), 1 / len(x))
        gradient, logits = self._step_functions.gradient_and_logits(theta, x, p, weights)
        loss = -(logits.log_softmax(dim=1) * p).sum(dim=1).mean()
        return Loss(loss, gradient.clone(), (logits.argmax(dim=1) != y).to(theta).mean())


def _step_functions(inputs: Inputs, batch: int) -> StepFunctions:
    """The step functions for batches of real images, of which only the gradient in theta is asked for."""
    from attcli import execution

    settings, how = inputs.settings, inputs.execution
    work = execution.Work(
        image=tuple(inputs.images.shape[1:]),
        classes=inputs.architecture.classes,
        batch=batch,
        images=batch * settings.iterations * settings.spans,
        dtype=inputs.images.dtype,
    )
    build, alone = inputs.architecture.build, inputs.team.size == 1  # none of a team may choose other slices by itself
    return execution.step_functions(
        inputs.student, build, work, inputs.images.device, how.execution, how.micro_batch, halving=alone
    )


def facts(step: int, expert: int = -1, epoch: int = -1) -> dict[str, Any]:
    """What the history keeps of an iteration without distances to an expert."""
    import numpy as np

    none = np.zeros(0, np.float32)
    return {"expert": expert, "start_epoch": epoch, "step": step, "l1": none, "l2": none}
