"""Gradient matching (DC, ICLR 2021; DSA, ICML 2021; IDC, ICML 2022): images whose gradients are those of real images.

For each class c, at a network theta:

    G_r = g(theta, real images of c)        G_s = g(theta, the set's images of c)        L = sum_c D(G_r, G_s)

With v = dD/dG_s in closed form (`attcli.matching.distances`) the gradient in the images is h's: dL/dx_c = d<g, v>/dx_c.

An iteration makes one image step at the network that `attcli.objectives.inner` trains between them, which is what the
objective remembers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field, PositiveInt

from attcli.errors import UserError
from attcli.objectives import NOTHING, Memory, classwise, inner
from attcli.options import Effort

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.matching.halving import Room
    from attcli.matching.step_functions import StepFunctions
    from attcli.objectives import Inputs, Slope
    from attcli.settings import Distill

LOSS = "distance of the gradients"

READS: tuple[str, ...] = ()

STATISTICS = 16
"""Real images of each class whose statistics batch norms have while gradients are matched. DC's code has as many, but
averages their statistics with those of earlier images."""


class Options(inner.OfInnerTraining, classwise.OfClasses):
    """The options of gradient matching."""

    set_per_class: PositiveInt | None = Field(
        None,
        description="gradient: at most this many of the set's images of a class are used in an iteration; default: all",
    )
    gradient_distance: Literal["cosine", "squares", "absolute"] = Field(
        "cosine",
        description="gradient: how two gradients are compared. cosine: by the angle between them, for the weights of "
        "each output alone, as in DC; squares or absolute: by their squared or absolute differences, as in IDC",
    )
    matched_layers: Literal["weights", "convolutions"] = Field(
        "weights",
        description="gradient: whose gradients are compared: the weights of all layers, or those of convolutions alone",
    )
    network_data: Literal["set", "real"] = Field(
        "set", description="gradient: what the network is trained on: the set, or real images"
    )
    network_images: PositiveInt = Field(
        2000, description="gradient: with network_data real, how many real images the network is trained on in a pass"
    )
    network_cutmix: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="gradient: probability that CutMix mixes a batch of the network's training"
    )


class Drawn(NamedTuple):
    """What chance decides: the batches of all classes, and the real images (B,) that batch norms get statistics of."""

    iteration: int
    batches: classwise.Drawn
    statistics: Tensor
    span: int = 0


class GradientMatching:
    """The objective. All its draws follow from (seed, iteration, span)."""

    def __init__(self, inputs: Inputs) -> None:
        from attcli.matching.distances import MATCHED
        from attcli.matching.student import has_batch_statistics

        self._inputs, self._settings, self._seed = inputs, inputs.settings, inputs.seed
        settings = inputs.settings
        self._classes = classwise.Classes(inputs, settings.real_per_class, settings.set_per_class)
        self._matched = [MATCHED[settings.matched_layers](shape) for shape in inputs.student.layout.shapes]
        if not any(self._matched):
            raise UserError(
                f"distill.matched_layers convolutions: the network {inputs.architecture.name} has none; set "
                f"distill.matched_layers=weights"
            )
        classwise.use_threads(inputs, self._classes.real_batch)
        self._calibrated = has_batch_statistics(inputs.student.module)
        if self._calibrated:
            self.step_functions: StepFunctions = inputs.student
            self._rooms = self._room(self._classes.real_batch), self._room(self._classes.set_batch)
        else:
            self.step_functions = self._steps(self._classes.set_batch, derivatives=True)
            self._real_steps = self._steps(self._classes.real_batch)
        trained_on = self._classes.real if settings.network_data == "real" else None
        if self._calibrated:  # the network is trained on whole batches; slices are for those that are compared
            inputs = replace(inputs, execution=inputs.execution.model_copy(update={"micro_batch": None}))
        self._network = inner.InnerNetwork(inputs, trained_on, settings.network_images, settings.network_cutmix)

    def _steps(self, batch: int, *, derivatives: bool = False) -> StepFunctions:
        seen = self._settings.iterations * self._classes.count * batch
        return classwise.steps(self._inputs, batch, seen, derivatives=derivatives)

    def ahead(self, iteration: int, span: int) -> Drawn:
        """Draw the batches of all classes."""
        import torch

        from attcli import runtime

        generator = runtime.stream(self._seed, "gradient", iteration, *([span] if span else []))
        batches = self._classes.draw(generator)
        shown = batches.real[:, :STATISTICS][batches.weights[:, :STATISTICS] > 0]  # without what fills up a class
        return Drawn(iteration, batches, shown[torch.randperm(len(shown), generator=generator)], span)

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: Drawn, memory: Memory = NOTHING) -> Slope:
        """The distance of the gradients, summed over the classes, and its derivative in images and labels."""
        import torch

        from attcli.matching import distances
        from attcli.objectives import Slope

        settings, layout = self._settings, self._inputs.student.layout
        network = self._network.at(drawn.iteration, memory, images, labels, drawn.span)
        theta = network[inner.THETA]
        of_real, of_set = self._at(theta, drawn)
        distance = distances.DISTANCES[settings.gradient_distance]
        learned = settings.labels == "learned"
        batches = self._classes.of_set(drawn.batches, images, labels, learned=learned)
        loss = images.new_zeros(())
        for c in range(self._classes.count):
            a = of_real.gradient(theta, *self._classes.of_real(drawn.batches, c)).clone()
            b = of_set.gradient(theta, *batches[c])
            one, v = distances.between(a, b, layout, distance, self._matched)
            loss += one
            derivatives = of_set.derivatives(theta, *batches[c], v, labels=learned)
            batches.pull_back(c, derivatives.x.clone(), derivatives.p)  # the next step may overwrite it
        by_images, by_logits = batches.gradients()
        facts = classwise.facts(step=self._network.position(drawn.iteration) + 1)
        kept = self._network.remembered(drawn.iteration, network)
        return Slope(loss, by_images, by_logits, torch.zeros_like(lr), labels, facts, kept)

    def _at(self, theta: Tensor, drawn: Drawn) -> tuple[StepFunctions, StepFunctions]:
        """The step functions for real images, and for the set's; batch norms have the statistics of real images."""
        if not self._calibrated:
            return self._real_steps, self.step_functions
        from attcli.matching.halving import Halving
        from attcli.matching.microbatch import MicroBatched
        from attcli.matching.statistics import calibrated

        real = self._classes.real
        x = real[drawn.statistics.to(real.device)].to(theta)
        student = calibrated(self._inputs.student, theta, x)

        def of(room: Room) -> StepFunctions:
            if self._inputs.team.size > 1:  # several processes have to take equal slices
                return MicroBatched(student, room.size)
            return Halving(lambda size: MicroBatched(student, size), room)

        of_real, of_set = self._rooms
        return of(of_real), of(of_set)

    def _room(self, batch: int) -> Room:
        """The images of a slice where batch norms have given statistics, so that batches may be cut."""
        from loguru import logger

        from attcli.execution import CACHED_IMAGES
        from attcli.matching.halving import Room
        from attcli.matching.microbatch import sliced

        device = self._inputs.images.device
        at_most = self._inputs.execution.micro_batch or (CACHED_IMAGES if device.type == "cpu" else batch)
        return Room(sliced(batch, min(batch, at_most)), batch, 1, str(device), logger.warning)


def remembers(distill: Distill) -> bool:
    """Where a network lives longer than one image step."""
    return bool(distill.outer_steps > 1)


def version(distill: Distill) -> int:
    """Since 1, networks that are trained with CutMix do without the cutout."""
    return int(distill.network_cutmix > 0)


def reads_experts(distill: Distill) -> bool:
    """Never."""
    return False


def effort(distill: Distill, classes: int, per_class: int) -> Effort:
    """The set's images in g and h, and once more in g; real images in g; and the network's training."""
    of_set = min(distill.set_per_class or per_class, per_class)
    matched = classes * ((1 + classwise.GRADIENT) * of_set + classwise.GRADIENT * distill.real_per_class)
    passes = distill.network_images if distill.network_data == "real" else classes * per_class
    return classwise.effort(distill, matched + inner.images(distill, passes))


def make(inputs: Inputs) -> GradientMatching:
    """The objective for these inputs."""
    return GradientMatching(inputs)
