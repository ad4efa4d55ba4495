"""Herding: in each class the images whose mean in feature space follows the class's mean (Welling, ICML 2009).

The k-th pick is the image j, not yet picked, with the least |k m - S - f_j|, where m is the mean feature of the class
and S the sum of the features picked before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attcli.baselines import Baseline, Candidates

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def herded(features: Tensor, count: int) -> Tensor:
    """The rows (count,) of features f64 (n, D) that herding picks, in its order; of equal ones the first."""
    import torch

    mean, total = features.mean(dim=0), torch.zeros_like(features[0])
    picked = torch.zeros(len(features), dtype=torch.bool)
    order = []
    for k in range(1, count + 1):
        distance = (k * mean - total - features).norm(dim=1).masked_fill(picked, torch.inf)
        row = int(distance.argmin())
        picked[row] = True
        total = total + features[row]
        order.append(row)
    return torch.tensor(order)


def select(candidates: Candidates, generator: torch.Generator) -> Tensor:
    """The indices of the images that herding picks in each class, class by class; nothing is drawn."""
    import torch

    picked = [rows[herded(candidates.features(rows), candidates.per_class)] for rows in candidates.members()]
    return torch.cat(picked)


BASELINE = Baseline(select, reads=("features",))
