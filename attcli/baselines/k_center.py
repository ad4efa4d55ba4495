"""Greedy k-center: in each class, always the image farthest from those picked so far (Sener and Savarese, ICLR 2018).

The first image of each class is drawn, anew for each repeat. Distances are Euclidean, in feature space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attcli.baselines import Baseline, Candidates

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def farthest_first(features: Tensor, count: int, first: int) -> Tensor:
    """The rows (count,) of features f64 (n, D) that are picked, in their order, starting with `first`."""
    import torch

    order = [first]
    nearest = (features - features[first]).norm(dim=1)
    nearest[first] = -1  # below any distance: where images are equal, none is picked twice
    while len(order) < count:
        row = int(nearest.argmax())
        order.append(row)
        nearest = torch.minimum(nearest, (features - features[row]).norm(dim=1))
        nearest[row] = -1
    return torch.tensor(order)


def select(candidates: Candidates, generator: torch.Generator) -> Tensor:
    """The indices of the picked images, class by class."""
    import torch

    picked = []
    for rows in candidates.members():
        first = int(torch.randint(len(rows), (1,), generator=generator))
        picked.append(rows[farthest_first(candidates.features(rows), candidates.per_class, first)])
    return torch.cat(picked)


BASELINE = Baseline(select, reads=("features",))
