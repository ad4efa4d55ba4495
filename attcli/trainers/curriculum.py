"""PAD's curriculum (arXiv 2408.03360): experts meet easy images first, and in the end no longer the easiest.

Of the n images of each class, from the easiest to the hardest, epoch e (from 0) takes

    e <= growth       the first floor(p n), p = min(1, start + (1 - start) e / growth), but at least one
    e <= 40           all
    40 < e <= 60      all but the first tenth
    60 < e            all but the first fifth

The released code has 5,000 in the place of n, which is right for CIFAR-10 alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

DROPPED = ((60, 0.2), (40, 0.1))
"""After which epoch what share of the easiest images is dropped, the latest first."""


@dataclass(frozen=True)
class Curriculum:
    """A schedule over the training images, whose indices are class by class (`members`), each from easy to hard."""

    members: list[Tensor]
    start: float
    growth: int

    def epoch(self, epoch: int) -> Tensor:
        """The indices of the images that are met in an epoch (from 0), class by class."""
        return torch.cat([indices[slice(*self._span(len(indices), epoch))] for indices in self.members])

    def count(self, epoch: int) -> int:
        """How many images are met in an epoch."""
        spans = (self._span(len(indices), epoch) for indices in self.members)
        return sum(end - first for first, end in spans)

    def _span(self, n: int, epoch: int) -> tuple[int, int]:
        if epoch <= self.growth:
            share = self.start + (1 - self.start) * epoch / self.growth if self.growth else 1.0
            return 0, max(1, int(share * n))  # in floats: where share * n is whole, it may be one image fewer
        dropped = next((share for after, share in DROPPED if epoch > after), 0.0)
        return int(dropped * n), n
