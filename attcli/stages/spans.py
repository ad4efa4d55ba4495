"""The gradient of an iteration: the mean over `distill.spans` spans of experts, shared out among the ranks.

The spans are dealt to as many teams of ranks; where there are more ranks than spans, the members of a team share the
slices of a batch. Sums run over the spans in their order, so that they do not depend on the number of ranks.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attcli.objectives import NOTHING, Memory, Objective, Slope
from attcli.ranks import Ranks

Facts = list[Mapping[str, Any]]
"""What the history keeps of an iteration: for each span in order."""


class Spans:
    """Asks an objective for the slopes of this rank's spans, and exchanges them with the other ranks."""

    def __init__(self, objective: Objective, count: int, ranks: Ranks) -> None:
        self._objective, self._count, self._ranks = objective, count, ranks
        self._teams = min(count, ranks.size)

    def ahead(self, iteration: int) -> list[Any]:
        """What chance decides in an iteration, for the spans of this rank."""
        mine = range(self._ranks.rank % self._teams, self._count, self._teams)
        return [self._objective.ahead(iteration, span) for span in mine]

    def slope(
        self, images: Tensor, labels: Tensor, lr: Tensor, drawn: list[Any], memory: Memory = NOTHING
    ) -> tuple[Slope, Facts]:
        """The mean of all spans' slopes, with the labels of the first one; and what is to be kept of each span.

        What an objective remembers is that of its only span.
        """
        slopes = [self._objective.slope(images, labels, lr, draws, memory) for draws in drawn]
        if self._ranks.several:
            slopes = self._exchanged(slopes, like=slopes[0])
        facts: Facts = [{**slope.facts, "loss": float(slope.loss)} for slope in slopes]
        return (slopes[0] if len(slopes) == 1 else _mean(slopes)), facts

    def _exchanged(self, slopes: list[Slope], like: Slope) -> list[Slope]:
        """The slopes of all spans, in their order."""
        facts = self._ranks.gathered([slope.facts for slope in slopes])
        exchanged: list[Slope] = []
        for turn in range(-(-self._count // self._teams)):
            own = _flat(slopes[turn]) if turn < len(slopes) else torch.zeros_like(_flat(like))
            rows = self._ranks.stacked(own)
            present = min(self._teams, self._count - turn * self._teams)
            exchanged += [_shaped(rows[team], like, facts[team][turn]) for team in range(present)]
        return exchanged


def _tensors(slope: Slope) -> dict[str, Tensor]:
    """A slope's tensors of floating point numbers."""
    named = {"loss": slope.loss, "images": slope.images, "logits": slope.logits, "lr": slope.lr}
    if slope.labels.is_floating_point():
        named["labels"] = slope.labels
    return {name: x for name, x in named.items() if x is not None}


def _flat(slope: Slope) -> Tensor:
    """The numbers of a slope in one row; all are of the images' type."""
    return torch.cat([x.reshape(-1).to(slope.images) for x in _tensors(slope).values()])


def _shaped(row: Tensor, like: Slope, facts: Mapping[str, Any]) -> Slope:
    """The slope in a row again; class numbers are the same for all spans."""
    tensors = _tensors(like)
    parts = row.split([x.numel() for x in tensors.values()])
    shaped = {name: part.view(x.shape).to(x) for (name, x), part in zip(tensors.items(), parts, strict=True)}
    return replace(_slope(shaped, like.labels, facts), memory=like.memory)


def _mean(slopes: list[Slope]) -> Slope:
    """The mean of spans' slopes, added in their order."""
    first, *others = slopes
    sums = _tensors(first)
    sums.pop("labels", None)
    for slope in others:
        own = _tensors(slope)
        sums = {name: x + own[name] for name, x in sums.items()}
    means = {name: x / len(slopes) for name, x in sums.items()}
    return _slope(means, first.labels, {})


def _slope(tensors: dict[str, Tensor], labels: Tensor, facts: Mapping[str, Any]) -> Slope:
    """The slope of these tensors; `labels` where they hold none."""
    return Slope(
        loss=tensors["loss"],
        images=tensors["images"],
        logits=tensors.get("logits"),
        lr=tensors["lr"],
        labels=tensors.get("labels", labels),
        facts=facts,
    )
