"""A network that an objective trains between its image steps (the inner loop of DC, ICLR 2021, and others).

It lives for `outer_steps` iterations. In the first it is fresh. At the beginning of every later one it is trained, on
the set as it then is or on real images. Then a fresh one takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from attcli.objectives import Memory, classwise
from attcli.options import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attcli.data.inputs import Inputs as Images
    from attcli.matching.step_functions import StepFunctions
    from attcli.objectives import Inputs
    from attcli.settings import Distill

More = Callable[[int, "Tensor"], bool]
"""Whether another pass is made, by how many there were, and theta (P,)."""

THETA, VELOCITY, LIFE = "theta", "velocity", "life"
"""What is remembered: parameters (P,), their momentum (P,) where there is one, and which network it is, from 0."""


class OfInnerTraining(Section):
    """The options of such a network."""

    outer_steps: PositiveInt = Field(
        1, description="gradient, cafe: for how many image steps a network is used before a fresh one replaces it"
    )
    inner_epochs: NonNegativeInt = Field(
        1, description="gradient, cafe: for how many passes the network is trained between two image steps"
    )
    network_lr: PositiveFloat = Field(0.01, description="gradient, cafe: learning rate of the network's training")
    network_momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="gradient, cafe: momentum of the network's training"
    )
    network_weight_decay: NonNegativeFloat = Field(
        0.0, description="gradient, cafe: weight decay of the network's training"
    )
    network_batch: PositiveInt = Field(256, description="gradient, cafe: images in a batch of the network's training")


def images(distill: Distill, of_pass: int) -> float:
    """What its training takes in an iteration on average: so many images through g and h (`attcli.options.Effort`)."""
    trained = 1 - 1 / distill.outer_steps  # a fresh network is not
    return float(classwise.GRADIENT * trained * distill.inner_epochs * of_pass)


class InnerNetwork:
    """The network, trained by SGD for `inner_epochs` passes: on the set, or on `real` images, `count` in each pass."""

    def __init__(self, inputs: Inputs, real: Images | None = None, count: int = 0, cutmix: float = 0.0) -> None:
        from attcli import augment

        self._inputs, self._settings, self._cutmix = inputs, inputs.settings, cutmix
        self._classes, self._real = inputs.architecture.classes, real
        self._strategy = inputs.settings.augment
        if cutmix:  # which hides parts of images itself
            self._strategy = augment.without(self._strategy, "cutout")
        self._count = len(inputs.images) if real is None else min(count, len(real))
        self._batch = min(self._settings.network_batch, self._count)

    @cached_property
    def step_functions(self) -> StepFunctions:
        """The step functions that it is trained with."""
        seen = self._count * self._settings.inner_epochs * self._settings.iterations
        return classwise.steps(self._inputs, self._batch, seen, short=self._count % self._batch)

    def fresh(self, number: int, like: Tensor, span: int = 0) -> Tensor:
        """The initial parameters (P,) of the network of that number, of which each span has one."""
        from attcli import runtime
        from attcli.matching.parameters import vector

        key = (number, *([span] if span else []))
        network = runtime.seeded(self._inputs.architecture.build, self._inputs.seed, "inner-network", *key)
        return vector(network).to(like)

    def position(self, iteration: int) -> int:
        """Which image step of its network an iteration makes, from 0."""
        return int(iteration % self._settings.outer_steps)

    def at(self, iteration: int, memory: Memory, images: Tensor, labels: Tensor, span: int = 0) -> dict[str, Tensor]:
        """The network of an iteration's span, under its names: fresh, or the one that is remembered, trained on.

        Where an update was not made, what is remembered may be an earlier network: then a fresh one begins.
        """
        import torch

        life = iteration // self._settings.outer_steps
        if self.position(iteration) and LIFE in memory and int(memory[LIFE]) == life:
            network = self.trained(memory, images, labels, iteration)
        else:
            network = {THETA: self.fresh(life, images, span)}
        return {**network, LIFE: torch.tensor(life, device=images.device)}

    def remembered(self, iteration: int, network: Memory) -> Memory:
        """What is needed of an iteration's network in the next one: nothing, where a fresh one comes."""
        return network if self.position(iteration + 1) else {}

    def trained(
        self,
        kept: Memory,
        images: Tensor,
        labels: Tensor,
        iteration: int,
        more: More | None = None,
    ) -> dict[str, Tensor]:
        """The network after its passes; the order of images and all else follows from the iteration.

        `more` is asked before each pass; where it is left out there are `inner_epochs` of them.
        """
        from attcli import runtime
        from attcli.trainers.training import Optimiser, train_epoch

        settings = self._settings
        generator = runtime.stream(self._inputs.seed, "inner-training", iteration)
        theta, velocity = kept[THETA].clone(), kept.get(VELOCITY)
        optimiser = Optimiser(
            settings.network_lr,
            settings.network_momentum,
            settings.network_weight_decay,
            None if velocity is None else velocity.clone(),
        )
        more = more or (lambda passes, theta: passes < settings.inner_epochs)
        passes = 0
        while more(passes, theta):
            x, y = self._seen(images, labels, generator)
            train_epoch(
                self.step_functions,
                theta,
                optimiser,
                x,
                y,
                classes=self._classes,
                batch=self._batch,
                strategy=self._strategy,
                generator=generator,
                cutmix=self._cutmix,
            )
            passes += 1
        return {THETA: theta, **({} if optimiser.velocity is None else {VELOCITY: optimiser.velocity})}

    def _seen(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images of a pass with their labels."""
        import torch

        if self._real is None:
            return images, labels
        index = torch.randperm(len(self._real), generator=generator)[: self._count]
        classes = self._inputs.data.labels["train"][index]
        return self._real[index.to(self._real.device)], classes.to(images.device)
