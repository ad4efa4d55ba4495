"""Forgetting: in each class the images that trainings on all images forget most often (Toneva et al., ICLR 2019).

An image is forgotten where it was classified correctly when it was last met in a training batch and is not now. An
image that was never classified correctly counts as forgotten as many times as there were epochs, which is more often
than any other can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attcli.baselines import Baseline, Candidates

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def select(candidates: Candidates, generator: torch.Generator) -> Tensor:
    """The indices of each class's most forgotten images, class by class; among equal counts the draw decides."""
    import torch

    counts = candidates.forgotten()
    picked = []
    for rows in candidates.members():
        drawn = rows[torch.randperm(len(rows), generator=generator)]
        order = counts[drawn].argsort(descending=True, stable=True)
        picked.append(drawn[order[: candidates.per_class]])
    return torch.cat(picked)


BASELINE = Baseline(select, reads=("forgotten",))
