"""The loss on real images of students that were trained on the set (RaT-BPTT, ICLR 2024; here they train by SGD).

A student starts at fresh parameters or at an expert's, takes some steps on the set, and then N more, the *window*. Its
loss on a batch of real images after the last step is what is minimised:

L = CE(f(x; theta_N), y) over real images (x, y)          lambda_N = dL/dtheta_N = g(theta_N, x, y)

From there on the sweep back through the window is that of trajectory matching, in constant memory. The steps before the
window are taken as they are: the gradient does not go through them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveInt

from attcli.objectives import NOTHING, Memory
from attcli.options import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attcli.matching.batches import Plan
    from attcli.matching.step_functions import StepFunctions
    from attcli.objectives import Inputs, Slope
    from attcli.settings import Distill


class Options(Section):
    """The options of the loss on real images."""

    student_start: Literal["fresh", "expert"] = Field(
        "fresh", description="real-loss: where students start: at fresh parameters, or at an expert's (start epochs)"
    )
    steps_before: NonNegativeInt = Field(
        0, description="real-loss: at most so many steps are taken before the window; how many is drawn each time"
    )
    real_batch: PositiveInt = Field(500, description="real-loss: real images on which the student's loss is taken")


class Drawn(NamedTuple):
    """What chance decides: the student's start (P,), the steps before the window and in it, the real images (B,)."""

    expert: int
    epoch: int
    start: Tensor
    before: Plan
    window: Plan
    real: Tensor


class RealLoss:
    """The objective. All its draws follow from (seed, iteration, span)."""

    def __init__(self, inputs: Inputs) -> None:
        from attcli.objectives.trajectory import step_functions_of

        self._settings, self._seed = inputs.settings, inputs.seed
        self._inputs, self._images = inputs, len(inputs.images)
        self._classes = inputs.architecture.classes
        like = inputs.images
        self._real = inputs.data.network_inputs("train", like.device, like.dtype)
        self._labels = inputs.data.labels["train"]
        self._start_epochs = range(inputs.settings.min_start_epoch, inputs.settings.max_start_epoch)
        self.step_functions = step_functions_of(inputs)
        self._tested = _on_real_images(inputs, min(inputs.settings.real_batch, len(self._labels)))

    def ahead(self, iteration: int, span: int) -> Drawn:
        """Draw the student's start, its batches, and the real images: as many of each class, as far as that goes."""
        import torch

        from attcli import runtime
        from attcli.matching.batches import plan
        from attcli.matching.parameters import vector

        settings = self._settings
        generator = runtime.stream(self._seed, "real-loss", iteration, *([span] if span else []))
        expert = epoch = -1
        if settings.student_start == "expert":
            expert = int(torch.randint(len(self._inputs.experts), (), generator=generator))
            epoch = int(torch.randint(self._start_epochs.start, self._start_epochs.stop, (), generator=generator))
            start = torch.from_numpy(self._inputs.experts.rows(expert, (epoch, epoch))[0])
        else:
            start = vector(
                runtime.seeded(self._inputs.architecture.build, self._seed, "real-loss-student", iteration, span)
            )
        steps = int(torch.randint(settings.steps_before + 1, (), generator=generator))
        batch = settings.batch_syn or self._images
        before, window = (
            plan(self._images, batch, count, settings.augment, generator, short_first=True)
            for count in (steps, settings.syn_steps)
        )
        return Drawn(expert, epoch, start, before, window, self._drawn_images(generator))

    def _drawn_images(self, generator: torch.Generator) -> Tensor:
        """Indices of real images, as many of each class; classes that have one more are drawn, too."""
        import torch

        from attcli.data.inputs import of_each_class

        have = self._labels.bincount(minlength=self._classes)
        wanted = min(self._settings.real_batch, len(self._labels))
        each = (torch.full_like(have, wanted // self._classes)).minimum(have)
        with_room = torch.nonzero(each < have)[:, 0]
        more = with_room[torch.randperm(len(with_room), generator=generator)[: wanted % self._classes]]
        each[more] += 1
        return of_each_class(self._labels, each.tolist(), generator)

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: Drawn, memory: Memory = NOTHING) -> Slope:
        """The loss on the drawn real images, and its gradients."""
        import numpy as np
        import torch

        from attcli.matching import adjoint
        from attcli.matching.batches import SyntheticBatches, probabilities
        from attcli.objectives import Slope

        learned = self._settings.labels == "learned"
        targets = probabilities(labels, self._classes).to(images)
        theta = drawn.start.to(images)
        before = SyntheticBatches(images, targets, drawn.before.to(images.device))
        for step in range(len(before)):
            theta = torch.addcmul(theta, self.step_functions.gradient(theta, *before[step]), lr, value=-1)
        window = SyntheticBatches(images, targets, drawn.window.to(images.device), learned_labels=learned)
        states = adjoint.unrolled(self.step_functions, theta, window, lr)
        theta = states[len(window)]
        x = self._real[drawn.real.to(images.device)].to(images)
        p = probabilities(self._labels[drawn.real], self._classes).to(images)
        weights = images.new_full((len(x),), 1 / len(x))
        lam, logits = self._tested.gradient_and_logits(theta, x, p, weights)
        loss = -(logits.log_softmax(dim=1) * p).sum(dim=1).mean()
        lr_gradient = adjoint.swept(self.step_functions, states, window, len(window), lam.clone(), lr)
        by_images, by_logits = window.gradients()
        none = np.zeros(0, np.float32)
        facts = {"expert": drawn.expert, "start_epoch": drawn.epoch, "step": len(window), "l1": none, "l2": none}
        return Slope(loss, by_images, by_logits, lr_gradient, labels, facts)


def _on_real_images(inputs: Inputs, batch: int) -> StepFunctions:
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
    build = inputs.architecture.build
    return execution.step_functions(inputs.student, build, work, inputs.images.device, how.execution, how.micro_batch)


def reads_experts(distill: Distill) -> bool:
    """Only where students start at experts' parameters."""
    return bool(distill.student_start == "expert")


def make(inputs: Inputs) -> RealLoss:
    """The objective for these inputs."""
    return RealLoss(inputs)
