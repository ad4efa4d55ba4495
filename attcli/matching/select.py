"""Which step of the student is matched: the heart of the difference between MTT and ATT.

A selector maps the distances (2, N) of steps 1..N to the target (rows L1 and L2) to a step k in 1..N.
"""

from collections.abc import Callable

import torch
from torch import Tensor

METRICS = ("l1", "l2")


def last(distances: Tensor, metric: str = "l1") -> int:
    """N: MTT matches the last step, wherever the student passed the target."""
    return distances.shape[1]


def nearest(distances: Tensor, metric: str = "l1") -> int:
    """N_opt: the step nearest to the target (ATT, ECCV 2024).

    The released code measures L1, the paper writes L2. Ties go to the later step; a distance that is not finite
    counts as infinite, and where none is finite the answer is N.
    """
    row = distances[METRICS.index(metric)]
    row = torch.where(row.isfinite(), row, torch.inf)
    return row.shape[0] - int(row.flip(0).argmin())


def without_hope(distances: Tensor, metric: str, patience: int) -> bool:
    """Whether each of the last `patience` steps is farther from the target than the nearest step before them.

    The student's training may end there: as long as the distances do not fall below the smallest one again later, the
    nearest step of the steps so far is the nearest of all.
    """
    return distances.shape[1] - nearest(distances, metric) >= patience


SELECTORS: dict[str, Callable[[Tensor, str], int]] = {"last": last, "nearest": nearest}
