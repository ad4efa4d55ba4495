"""The real images that a set is compared with: one file for each way to choose them, found by its name.

A module's BASELINE says how it chooses, and what networks see of the chosen images. Networks are trained on them by the
set's own protocol, at the best of several learning rates, so all baselines are measured as random images are. The
currency is bytes: as many float32 images are chosen as the set's budget pays for, or as many as the same bytes hold in
another form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from attcli import registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attcli.coding import Coding
    from attcli.data.inputs import Inputs


@dataclass(frozen=True)
class Candidates:
    """The training images that a baseline chooses from.

    labels: their classes i64 (N,). per_class: how many of each class are chosen. classes: the number of classes.
    features: takes indices (n,) to f64 (n, D), what the last linear layer takes in of a network that was trained on all
    training images. forgotten: i64 (N,), how often such trainings forgot each image (`attcli.baselines.forgetting`).
    """

    labels: Tensor
    per_class: int
    classes: int
    features: Callable[[Tensor], Tensor]
    forgotten: Callable[[], Tensor]

    def members(self) -> list[Tensor]:
        """The indices of each class's images."""
        return [(self.labels == c).nonzero().flatten() for c in range(self.classes)]


Select = Callable[[Candidates, "torch.Generator"], "Tensor"]
"""Candidates, and a stream of random numbers that is the repeat's own, to the indices of the chosen images."""


@dataclass(frozen=True)
class Budget:
    """What the set costs that real images are compared with: its ipc, and what its file really holds.

    images and bytes are per class. coding says how the set is kept, and has the normaliser.
    """

    ipc: int
    images: int
    bytes: float
    coding: Coding


def paid(budget: Budget) -> int:
    """As many float32 images of each class as the budget is called after."""
    return budget.ipc


@dataclass(frozen=True)
class Baseline:
    """How real images are chosen; `select` is None where all training images are taken.

    reads: which of the candidates' features and forgotten it calls; each takes trainings on all images.
    per_class: how many images of each class it chooses; with `up_to` fewer of a class that has too few. kept: takes
    their network inputs (n, C, H, W), which are read by their indices, and classes (n,) to those that networks see,
    where that is something else.
    """

    select: Select | None
    reads: tuple[Literal["features", "forgotten"], ...] = ()
    per_class: Callable[[Budget], int] = paid
    up_to: bool = False
    kept: Callable[[Inputs, Tensor, Budget], tuple[Tensor, Tensor]] | None = None


def load(name: str) -> Baseline:
    """The baseline of that name. UserError if there is none."""
    baseline: Baseline = registry.module("baseline", name).BASELINE
    return baseline
