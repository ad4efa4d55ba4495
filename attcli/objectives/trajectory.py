"""Trajectory matching (MTT, CVPR 2022): a student that trains on the images should retrace a span of an expert's way.

Which span and which of the student's steps are matched, and how the gradient is computed, are axes of their own
(`attcli.matching.window`, `select` and the engines).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, NonNegativeFloat, PositiveInt

from attcli.objectives import NOTHING, OF_STUDENTS, Memory
from attcli.options import Section

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.execution import Work
    from attcli.matching.batches import Plan
    from attcli.matching.engine import Stop
    from attcli.matching.step_functions import StepFunctions
    from attcli.objectives import Inputs, Slope

LOSS = "matching loss"

READS = (
    *("distill.select", "distill.start_epochs", "distill.window", "distill.engine", "distill.expert_epochs"),
    "distill.max_loss",
    *OF_STUDENTS,
)


class Options(Section):
    """The options of trajectory matching beside its axes."""

    compare: Literal["all", "deep", "far"] = Field(
        "all",
        description="which of the network's parameters are compared with the expert's. all; deep: all but those of "
        "the first layers (PAD); far: all but those that are nearest to the expert's (EDF)",
    )
    left_out: float = Field(
        0.25, ge=0, lt=1, description="compare deep or far: the share of the parameters that is left out"
    )
    emphasis: Literal["none", "cam"] = Field(
        "none",
        description="how the gradient in an image's pixels is weighted. none: all alike; cam: more where an expert "
        "looks to see the image's class (EDF)",
    )
    emphasis_every: PositiveInt = Field(
        100, description="cam: after how many iterations the weights are computed anew, by an expert that is drawn"
    )
    emphasis_added: NonNegativeFloat = Field(
        1.0,
        description="cam: number that is added to the weights of pixels where an expert looks (they are 0 to 1 "
        "without it)",
    )
    mirror: Literal["none", "pairs", "random", "both"] = Field(
        "none",
        description="mirror images in the student's batches. none; pairs: a batch has half as many images, each once "
        "as it is and once mirrored (FYI); random: each image is mirrored with probability 1/2; both: pairs, then "
        "random. All but none leave out the augmentation's flip",
    )


class Drawn(NamedTuple):
    """What chance decides in an iteration, and the rows (2, P) of the expert's span."""

    expert: int
    start_epoch: float
    plan: Plan
    rows: Tensor


class TrajectoryMatching:
    """The objective. All its draws follow from (seed, iteration, span)."""

    def __init__(self, inputs: Inputs) -> None:
        from attcli.matching import engine
        from attcli.matching.compare import Compared

        self._settings, self._seed = inputs.settings, inputs.seed
        self._experts, self._student = inputs.experts, inputs.student
        self._classes, self._images = inputs.architecture.classes, len(inputs.images)
        self._pinned = inputs.images.device.type == "cuda"
        self._match = engine.load(inputs.settings.engine)
        self._compared = Compared(inputs.settings.compare, inputs.settings.left_out)
        self.step_functions = step_functions_of(inputs, inputs.settings.mirror)

    def ahead(self, iteration: int, span: int) -> Drawn:
        """Draw expert, start epoch and the student's batches, and read the two rows of the expert."""
        import torch

        from attcli import runtime
        from attcli.matching.batches import plan
        from attcli.matching.window import WINDOWS, StartEpochs

        settings = self._settings
        generator = runtime.stream(self._seed, "iteration", iteration, *([span] if span else []))
        expert = int(torch.randint(len(self._experts), (), generator=generator))
        bounds = StartEpochs(
            minimum=settings.min_start_epoch,
            maximum=settings.max_start_epoch,
            current=settings.current_max_start_epoch or settings.min_start_epoch + 1,
            expansion_end=settings.expansion_end,
        )
        first, end = WINDOWS[settings.window](bounds, iteration)
        if settings.start_epochs == "real":
            start_epoch = first + (end - first) * float(torch.rand((), generator=generator, dtype=torch.float64))
        else:
            start_epoch = int(torch.randint(first, end, (), generator=generator))
        batch = settings.batch_syn or self._images
        drawn = plan(
            self._images,
            batch,
            settings.syn_steps,
            settings.augment,
            generator,
            short_first=True,
            mirrors=settings.mirror,
        )
        rows = torch.from_numpy(self._experts.rows(expert, (start_epoch, start_epoch + settings.expert_epochs)))
        return Drawn(expert, start_epoch, drawn, rows.pin_memory() if self._pinned else rows)

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: Drawn, memory: Memory = NOTHING) -> Slope:
        """The matching loss of the drawn span, and its gradients."""
        from attcli.matching.batches import SyntheticBatches, probabilities
        from attcli.objectives import Slope

        start, target = drawn.rows.to(images, non_blocking=True)
        if self._settings.labels == "teacher":
            labels = self._taught(images, target)
        learned = self._settings.labels == "learned"
        targets = probabilities(labels, self._classes).to(images)
        batches = SyntheticBatches(images, targets, drawn.plan.to(images.device), learned_labels=learned)
        match = self._match(self.step_functions, start, target, batches, lr, self._select, self._stop(), self._compared)
        by_images, by_logits = batches.gradients()
        l1, l2 = _of_all_steps(match.distances, len(batches)).cpu().numpy()
        facts = {"expert": drawn.expert, "start_epoch": drawn.start_epoch, "step": match.step, "l1": l1, "l2": l2}
        return Slope(match.loss, by_images, by_logits, match.lr_gradient, labels, facts)

    def _select(self, distances: Tensor) -> int:
        from attcli.matching.select import SELECTORS

        return SELECTORS[self._settings.select](distances, self._settings.select_metric)

    def _stop(self) -> Stop | None:
        """When the student's training ends before its last step, if it may."""
        from attcli.matching.select import without_hope

        settings = self._settings
        if settings.select != "nearest" or settings.patience is None:
            return None
        metric, patience = settings.select_metric, settings.patience
        return lambda distances: without_hope(distances, metric, patience)

    def _taught(self, images: Tensor, target: Tensor) -> Tensor:
        """The logits (n, K) that the expert gives the images at the end of the span (TESLA's labels)."""
        import torch

        from attcli.data.inputs import at_a_time
        from attcli.matching.statistics import calibrated

        teacher = calibrated(self._student, target, images)
        with torch.no_grad():
            return torch.cat([teacher.logits(target, part) for part in images.split(at_a_time(images))])


def _of_all_steps(distances: Tensor, n_steps: int) -> Tensor:
    """The distances (2, n) as (2, n_steps): those of steps that the student did not take are not known, NaN."""
    import torch

    return torch.nn.functional.pad(distances, (0, n_steps - distances.shape[1]), value=torch.nan)


def make(inputs: Inputs) -> TrajectoryMatching:
    """The objective for these inputs."""
    return TrajectoryMatching(inputs)


def step_functions_of(inputs: Inputs, mirrors: str = "none") -> StepFunctions:
    """The student's step functions for sets shaped like the images; `mirrors` is the rule for mirror images."""
    from attcli import execution
    from attcli.matching.batches import sizes
    from attcli.matching.statistics import unfilled
    from attcli.settings.choices import unrolls

    settings, how, images = inputs.settings, inputs.execution, inputs.images
    batch, short = sizes(len(images), settings.batch_syn or len(images), mirrors)
    work = execution.Work(
        image=tuple(images.shape[1:]),
        classes=inputs.architecture.classes,
        batch=batch,
        images=batch * settings.syn_steps * settings.iterations * settings.spans,
        short=short,
        derivatives=True,
        labels=settings.labels == "learned",
        dtype=images.dtype,
    )
    execution.use_threads(how.threads, inputs.architecture.build, work)
    if unrolls(settings):
        # This engine has its own way through the network, which needs the loss alone.
        return unfilled(inputs.student, inputs.student.module) if work.short else inputs.student
    return steps_for(inputs, work)


def steps_for(inputs: Inputs, work: Work) -> StepFunctions:
    """The student's step functions for this work, whose slices the processes of the team share."""
    from attcli import execution
    from attcli.matching.microbatch import MicroBatched, SharedSlices

    how, build = inputs.execution, inputs.architecture.build
    alone = inputs.team.size == 1  # one of several that share slices may not choose others by itself
    made = execution.step_functions(
        inputs.student, build, work, inputs.images.device, how.execution, how.micro_batch, halving=alone
    )
    if isinstance(made, MicroBatched) and not alone:
        return SharedSlices(made.step_functions, made.size, inputs.team)
    return made
