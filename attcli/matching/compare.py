"""Which of the network's numbers are compared: all, or all but a share of them.

A rule says which numbers (P,) take part in the matching loss and in the distances by which a step is chosen. They are
constants of an iteration: no derivative passes through their choice.

all:   every number (MTT).
deep:  without the first `share` of them, in the order from the network's first layer to its last (PAD,
       arXiv 2408.03360, eq. 4).
far:   without the `share` that ended nearest to the target, by (theta_k - target)^2 (PAD's released code; the common
       pattern dropout of EDF, CVPR 2025). They are known only once the step k is chosen, which is therefore chosen by
       the distances of all numbers.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Compared:
    """A rule, and the share in [0, 1) of the numbers that it leaves out."""

    rule: Literal["all", "deep", "far"] = "all"
    share: float = 0.0

    def always(self, target: Tensor) -> Tensor | None:
        """The numbers that count at every step, as a mask (P,) of zeros and ones; None for all of them."""
        if self.rule != "deep":
            return None
        kept = torch.ones_like(target)
        kept[: self._left_out(target)] = 0
        return kept

    def at(self, theta: Tensor, target: Tensor) -> Tensor | None:
        """The numbers that count at the chosen step's parameters theta (P,), likewise."""
        if self.rule != "far":
            return self.always(target)
        order = (theta - target).square().argsort(stable=True)
        kept = torch.ones_like(target)
        kept[order[: self._left_out(target)]] = 0
        return kept

    def _left_out(self, target: Tensor) -> int:
        return int(self.share * len(target))


EVERYTHING = Compared()
