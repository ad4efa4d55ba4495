"""Aligned features (CAFE, CVPR 2022): class means of several layers, and real images told apart by the set's means.

With f_l the outputs of layer l of a network, m_lc and s_lc their means over the real images and the set's images of
class c, F the features (the inputs of the last linear layer, f_L) of all real images, and S the rows s_Lc:

    L = sum_l w_l sum_c |s_lc - m_lc|^2 + d D        D = sum over real images of CE( F S^T, their classes )
    dL/ds_lc = 2 w_l (s_lc - m_lc)                   dD/dS = (softmax(F S^T) - Y)^T F         Y: one-hot classes

The layers are the network's activations, each before it is pooled; w is 0.1 for all but the last, whose w is 1.
Features count twice, w = 2, as in CAFE's code, which has them once as maps and once as rows.

The network is trained on the set between image steps. Two rules say for how long (see `settled` and `moved`), or fixed
numbers do.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from attcli.objectives import NOTHING, Memory, classwise, inner, tapped
from attcli.options import Effort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attcli.objectives import Inputs, Slope
    from attcli.settings import Distill

LOSS = "distance of the features"

READS: tuple[str, ...] = ()

READINGS = 10
"""Accuracies that both rules look at."""

EARLY, LATE, FEATURES = 0.1, 1.0, 2.0
"""Weights of all activations but the last, of the last, and of the features."""

ACCURACIES, STEPS = "accuracies", "steps"
"""What the rules remember beside the network: its last accuracies, and how many image steps it has seen."""


class Options(inner.OfInnerTraining, classwise.OfClasses):
    """The options of aligned features."""

    discrimination: NonNegativeFloat = Field(
        0.01,
        description="cafe: weight of the term by which the set's mean features learn to tell the classes of real "
        "images apart",
    )
    stopping: Literal["accuracy", "fixed"] = Field(
        "accuracy",
        description="cafe: what decides how long a network is trained, and when a fresh one replaces it. accuracy: "
        "its accuracy on training images; fixed: outer_steps and inner_epochs",
    )
    settled_within: PositiveFloat = Field(
        0.04,
        description="cafe: a fresh network replaces the old one when ten accuracies in a row differ by less than this",
    )
    moved_beyond: PositiveFloat = Field(
        0.03, description="cafe: the network is trained until ten accuracies in a row differ by more than this"
    )
    query_per_class: PositiveInt = Field(
        128, description="cafe: training images of each class on which an accuracy is measured"
    )
    most_epochs: PositiveInt = Field(
        100, description="cafe: the network is trained for at most this many passes between two image steps"
    )


class Drawn(NamedTuple):
    """What chance decides: the batches of all classes."""

    iteration: int
    batches: classwise.Drawn
    span: int = 0


class AlignedFeatures:
    """The objective. All its draws follow from (seed, iteration, span)."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs, self._settings, self._seed = inputs, inputs.settings, inputs.seed
        self._classes = classwise.Classes(inputs, inputs.settings.real_per_class)
        self._taps = tapped.Tapped(inputs, self._classes, activations=True)
        self._network = inner.InnerNetwork(inputs)
        self.step_functions = inputs.student
        classwise.use_threads(inputs, self._classes.real_batch)

    def ahead(self, iteration: int, span: int) -> Drawn:
        """Draw the batches of all classes."""
        from attcli import runtime

        generator = runtime.stream(self._seed, "cafe", iteration, *([span] if span else []))
        return Drawn(iteration, self._classes.draw(generator), span)

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: Drawn, memory: Memory = NOTHING) -> Slope:
        """The loss above, and its derivative in the images."""
        import torch

        from attcli.objectives import Slope

        network, step = self._network_at(drawn, memory, images, labels)
        theta = network[inner.THETA]
        batches = self._classes.of_set(drawn.batches, images, labels)
        x = torch.cat([batches[c].x for c in range(len(batches))])
        own = self._taps.of_set(theta, x)
        rows = self._taps.of_real(theta, drawn.batches, partial(_of_class, own[-1]))
        *means, told_apart, pulled = rows.split([*(s.shape[1] for s in own), 1, own[-1].numel()], dim=1)
        weights = [*[EARLY] * (self._taps.layers - 1), *[LATE] * (self._taps.layers > 0), FEATURES]
        apart = [s - m for s, m in zip(own, means, strict=True)]
        squares = [w * d.square().sum() for w, d in zip(weights, apart, strict=True)]
        loss = torch.stack(squares).sum() + self._settings.discrimination * told_apart.sum()
        by_means = [2 * w * d for w, d in zip(weights, apart, strict=True)]
        by_means[-1] += self._settings.discrimination * pulled.sum(dim=0).view(own[-1].shape)
        self._taps.pull_back(theta, x, batches, by_means)
        kept = network
        if self._settings.stopping == "fixed":
            kept = self._network.remembered(drawn.iteration, network)
        return Slope(loss, batches.gradients()[0], None, torch.zeros_like(lr), labels, classwise.facts(step), kept)

    def _network_at(self, drawn: Drawn, memory: Memory, images: Tensor, labels: Tensor) -> tuple[Memory, int]:
        """The network of an iteration, and which of its image steps this one is, from 1."""
        import torch

        iteration = drawn.iteration
        if self._settings.stopping == "fixed":
            network = self._network.at(iteration, memory, images, labels, drawn.span)
            return network, self._network.position(iteration) + 1
        if inner.THETA in memory:
            before = memory[ACCURACIES].tolist() if ACCURACIES in memory else []
            accuracies = [*before, self._accuracy(memory[inner.THETA], iteration, 0)][-READINGS:]
            if not settled(accuracies, self._settings.settled_within):
                network = self._network.trained(memory, images, labels, iteration, self._rule(iteration))
                step = int(memory[STEPS]) + 1
                kept = torch.tensor(accuracies, dtype=images.dtype, device=images.device)
                return {**network, ACCURACIES: kept, STEPS: torch.tensor(step, device=images.device)}, step
        theta = self._network.fresh(iteration, images)
        return {inner.THETA: theta, STEPS: torch.tensor(1, device=images.device)}, 1

    def _rule(self, iteration: int) -> inner.More:
        """Whether the network is trained for another pass: until its accuracy has moved."""
        accuracies: list[float] = []

        def more(passes: int, theta: Tensor) -> bool:
            if passes == self._settings.most_epochs:
                return False
            if passes:
                accuracies.append(self._accuracy(theta, iteration, passes))
            return not moved(accuracies, self._settings.moved_beyond)

        return more

    def _accuracy(self, theta: Tensor, iteration: int, passes: int) -> float:
        """The share of training images, drawn anew, that a network classifies correctly."""
        from attcli import runtime

        generator = runtime.stream(self._seed, "cafe-query", iteration, passes)
        index = self._classes.some(self._settings.query_per_class, generator)
        real, labels = self._classes.real, self._inputs.data.labels["train"][index]
        answers = self._taps.answers(theta, real[index.to(real.device)].to(theta))
        return float((answers.cpu() == labels).double().mean())


def _of_class(means: Tensor, c: int, taps: list[Tensor]) -> Tensor:
    """What the loss takes from the real images of class c, in a row, given the set's mean features (K, D).

    The means of the taps (R, D); the cross-entropy of the images that the set's means tell apart; its derivative in S.
    """
    import torch
    from torch.nn import functional as F

    features = taps[-1]
    logits = features @ means.T
    classes = torch.full((len(features),), c, device=features.device)
    told_apart = F.cross_entropy(logits, classes, reduction="sum")
    missed = logits.softmax(dim=1) - F.one_hot(classes, len(means))
    return torch.cat([*(tap.mean(dim=0) for tap in taps), told_apart.view(1), (missed.T @ features).flatten()])


def settled(accuracies: Sequence[float], within: float) -> bool:
    """Whether a network has nothing more to tell: its last ten accuracies after image steps are near to each other."""
    last = accuracies[-READINGS:]
    return len(last) == READINGS and max(last) - min(last) < within


def moved(accuracies: Sequence[float], beyond: float) -> bool:
    """Whether training has changed a network enough: its last ten accuracies after passes spread by more than this."""
    last = accuracies[-READINGS:]
    return len(last) == READINGS and max(last) - min(last) > beyond


def remembers(distill: Distill) -> bool:
    """Where a network may live longer than one image step."""
    return bool(distill.stopping == "accuracy" or distill.outer_steps > 1)


def version(distill: Distill) -> int:
    """Since 1, all activations of residual blocks are compared."""
    return 1


def reads_experts(distill: Distill) -> bool:
    """Never."""
    return False


def check(distill: Distill) -> None:
    """UserError where labels are to be learned."""
    classwise.check_labels(distill)


def effort(distill: Distill, classes: int, per_class: int) -> Effort:
    """As for distribution matching, and the network's training: by the rules some ten passes, each with a reading."""
    compared = classwise.FORWARD * classes * (distill.real_per_class + 4 * per_class)
    if distill.stopping == "fixed":
        return classwise.effort(distill, compared + inner.images(distill, classes * per_class))
    trained = classwise.GRADIENT * per_class + classwise.FORWARD * distill.query_per_class
    return classwise.effort(distill, compared + READINGS * classes * trained)


def make(inputs: Inputs) -> AlignedFeatures:
    """The objective for these inputs."""
    return AlignedFeatures(inputs)
