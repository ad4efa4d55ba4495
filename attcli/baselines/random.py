"""Random images of each class, other ones for each repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attcli.baselines import Baseline, Candidates

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def select(candidates: Candidates, generator: torch.Generator) -> Tensor:
    """The indices of `per_class` random images of each class, class by class."""
    from attcli.data.inputs import of_each_class

    return of_each_class(candidates.labels, [candidates.per_class] * candidates.classes, generator)


BASELINE = Baseline(select)
