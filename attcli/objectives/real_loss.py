"""The loss on real images of students that were trained on the set (DD, 2018; RaT-BPTT, ICLR 2024).

A student starts at fresh parameters or at an expert's, takes some steps on the set, and then N more, the *window*. Its
loss on a batch of real images after the last step is what is minimised:

L = CE(f(x; theta_N), y) over real images (x, y)          lambda_N = dL/dtheta_N = g(theta_N, x, y)

From there the sweep goes back through the window, in constant memory: for students of SGD it is that of trajectory
matching, for students of Adam that of `attcli.matching.adam_adjoint`. The steps before the window are taken as they
are: the gradient does not go through them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveFloat

from attcli.errors import UserError
from attcli.objectives import NOTHING, OF_STUDENTS, Memory, of_students, real_images
from attcli.objectives.real_images import RealImages, RealOptions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attcli.matching.batches import Plan
    from attcli.objectives import Inputs, Slope
    from attcli.objectives.real_images import Tested
    from attcli.options import Effort
    from attcli.settings import Distill


LOSS = "loss on real images"

READS = OF_STUDENTS

DECAY = 0.9
"""Decay of the moving average of the length of images' gradients, as in RaT-BPTT."""


class Options(RealOptions):
    """The options of the loss on real images."""

    student_start: Literal["fresh", "fixed", "expert"] = Field(
        "fresh",
        description="real-loss: where students start. fresh: at new initial parameters each time; fixed: always at "
        "the same ones; expert: at an expert's parameters after one of the start epochs",
    )
    student_optimiser: Literal["sgd", "adam"] = Field(
        "sgd",
        description="real-loss: optimiser of the students: sgd or adam; the learning rate starts at lr_init, and is "
        "learned",
    )
    student_lr: PositiveFloat | None = Field(
        None,
        description="real-loss: learning rate of the students, if it is not to be the set's own, which is learned",
    )
    student_rates: Literal["one", "each"] = Field(
        "one",
        description="real-loss: one learning rate for all of the students' steps, or one for each of the syn_steps",
    )
    student_batches: Literal["any", "balanced", "cyclic"] = Field(
        "any",
        description="real-loss: the students' batches. any: drawn from all images; balanced: drawn, with equally many"
        " images of each class; cyclic: the same, but always the same batches in the same order",
    )
    clip: PositiveFloat | None = Field(
        None,
        description="real-loss: shorten the images' gradient to at most this many times the recent average of its "
        "length; default: do not",
    )
    steps_before: NonNegativeInt = Field(
        0,
        description="real-loss: most steps that students train before the window begins; the number is drawn in each "
        "iteration, from 0 to this",
    )


class Drawn(NamedTuple):
    """What chance decides: the student's start (P,), the steps before the window and in it, the real images."""

    expert: int
    epoch: int
    start: Tensor
    before: Plan
    window: Plan
    tested: Tested


class RealLoss:
    """The objective. All its draws follow from (seed, iteration, span)."""

    def __init__(self, inputs: Inputs) -> None:
        from attcli.matching import students
        from attcli.objectives.trajectory import step_functions_of

        self._settings, self._seed = inputs.settings, inputs.seed
        self._inputs, self._images = inputs, len(inputs.images)
        self._classes = inputs.architecture.classes
        self._training = students.OPTIMISERS[inputs.settings.student_optimiser]
        self._start_epochs = range(inputs.settings.min_start_epoch, inputs.settings.max_start_epoch)
        self.step_functions = step_functions_of(inputs)
        self._real = RealImages(inputs)

    def ahead(self, iteration: int, span: int) -> Drawn:
        """Draw the student's start, its batches, and the real images: as many of each class, as far as that goes."""
        import torch

        from attcli import runtime

        settings = self._settings
        generator = runtime.stream(self._seed, "real-loss", iteration, *([span] if span else []))
        expert, epoch, start = self._start(iteration, span, generator)
        steps = int(torch.randint(settings.steps_before + 1, (), generator=generator))
        before = self._plan(steps, generator)
        window = self._plan(settings.syn_steps, generator, first=steps)
        return Drawn(expert, epoch, start, before, window, self._real.draw(generator))

    def _start(self, iteration: int, span: int, generator: torch.Generator) -> tuple[int, int, Tensor]:
        """The expert and epoch at whose parameters the student starts, -1 where it is none's, and these (P,)."""
        import torch

        from attcli import runtime
        from attcli.matching.parameters import vector

        inputs, kind = self._inputs, self._settings.student_start
        if kind == "expert":
            expert = int(torch.randint(len(inputs.experts), (), generator=generator))
            epoch = int(torch.randint(self._start_epochs.start, self._start_epochs.stop, (), generator=generator))
            return expert, epoch, torch.from_numpy(inputs.experts.rows(expert, (epoch, epoch))[0])
        key = (iteration, span) if kind == "fresh" else ()
        return -1, -1, vector(runtime.seeded(inputs.architecture.build, self._seed, "real-loss-student", *key))

    def _plan(self, n_steps: int, generator: torch.Generator, first: int = 0) -> Plan:
        """The student's batches for so many steps, of which the first is the student's step of that number."""
        from attcli.matching import balanced, batches

        settings, count = self._settings, self._images
        batch = settings.batch_syn or count
        if settings.student_batches == "balanced":
            return balanced.balanced(count, self._classes, batch, n_steps, settings.augment, generator)
        if settings.student_batches == "cyclic":
            return balanced.cyclic(count, self._classes, batch, n_steps, settings.augment, generator, first)
        return batches.plan(count, batch, n_steps, settings.augment, generator, short_first=True)

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: Drawn, memory: Memory = NOTHING) -> Slope:
        """The loss on the drawn real images, and its gradients."""
        import torch

        from attcli.matching.batches import SyntheticBatches, probabilities
        from attcli.objectives import Slope

        settings = self._settings
        learned = settings.labels == "learned"
        targets = probabilities(labels, self._classes).to(images)
        rate = lr if settings.student_lr is None else torch.full_like(lr, settings.student_lr)
        before = SyntheticBatches(images, targets, drawn.before.to(images.device))
        window = SyntheticBatches(images, targets, drawn.window.to(images.device), learned_labels=learned)
        student = self._training.train(self.step_functions, self._training.begin(drawn.start.to(images)), before, rate)
        theta, back = self._training.train_with_way_back(self.step_functions, student, window, rate)
        loss, lam, _ = self._real.loss(theta, drawn.tested)
        by_rate = back(lam)
        by_images, by_logits = window.gradients()
        by_images, remembered = self._clipped(by_images, memory)
        facts = real_images.facts(len(window), drawn.expert, drawn.epoch)
        by_lr = by_rate if settings.student_lr is None else torch.zeros_like(lr)
        return Slope(loss, by_images, by_logits, by_lr, labels, facts, remembered)

    def _clipped(self, gradient: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The images' gradient, no longer than so many times the moving average of its length, and this average.

        As in the released code of RaT-BPTT (ICLR 2024), the gradient's own length is part of the average.
        """
        if self._settings.clip is None:
            return gradient, NOTHING
        length = gradient.norm()
        before = memory.get("length", length)
        before = length if float(before) == 0 else before
        average = DECAY * before + (1 - DECAY) * length
        longest = length.minimum(self._settings.clip * average)
        scale = longest / length if float(length) else length
        return gradient * scale, {"length": average}


def version(distill: Distill) -> int:
    """A number for each change of what is computed.

    Since 3, `min_lr` holds for each of several rates; since 2, balanced batches hold no image twice; since 1, the
    average length is that of gradients as they were.
    """
    if distill.student_rates == "each":
        return 3
    return 2 if distill.student_batches == "balanced" else int(distill.clip is not None)


def reads_experts(distill: Distill) -> bool:
    """Only where students start at experts' parameters."""
    return bool(distill.student_start == "expert")


def effort(distill: Distill, classes: int, per_class: int) -> Effort:
    """A student's steps; besides, g in the steps before them, on average half of the most, and of real images."""
    students = of_students(distill, classes, per_class)
    besides = students.batch * distill.steps_before / 2 + distill.real_batch
    vectors = students.vectors * (4 if distill.student_optimiser == "adam" else 1)  # its moments and gradients, too
    return replace(students, images=students.images + besides / 4, vectors=vectors, real=True)


def remembers(distill: Distill) -> bool:
    """It remembers how long the images' gradients were, where it clips them."""
    return distill.clip is not None


def check(distill: Distill) -> None:
    """UserError where steps before the window would have no learning rate, or those in it two."""
    if has_rates(distill) and distill.student_lr is not None:
        raise UserError(
            "distill.student_rates each learns the students' learning rates, so distill.student_lr has no place; leave "
            "one of them out"
        )
    if has_rates(distill) and distill.steps_before:
        raise UserError(
            f"distill.student_rates each is for students whose steps are all in the window, but up to "
            f"{distill.steps_before} come before it; set distill.steps_before=0"
        )


def has_rates(distill: Distill) -> bool:
    """Where each of the students' steps has a learning rate of its own."""
    return bool(distill.student_rates == "each")


def check_counts(distill: Distill, classes: int, images_per_class: int) -> None:
    """UserError where the students' batches can't hold equally many images of each class."""
    kind, batch = distill.student_batches, distill.batch_syn or classes * images_per_class
    if kind == "any":
        return
    whole = batch % classes == 0 and (kind == "balanced" or images_per_class % (batch // classes) == 0)
    if whole or (kind == "balanced" and batch < classes):
        return
    of_cycles = ", which divides the set" if kind == "cyclic" else ""
    raise UserError(
        f"distill.student_batches {kind}: batches of {batch} images can't hold equally many of each of the {classes} "
        f"classes; set distill.batch_syn to {classes}, or another multiple of it{of_cycles}"
    )


def make(inputs: Inputs) -> RealLoss:
    """The objective for these inputs."""
    return RealLoss(inputs)
