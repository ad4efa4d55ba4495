"""How often images are forgotten in a training (Toneva et al., ICLR 2019)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Presentations:
    """What happened at the presentations of N images in training batches: each image's last answer, and the changes."""

    correct: Tensor
    """Whether each image was classified correctly when it was last met, bool (N,)."""
    learned: Tensor
    """Whether it ever was, bool (N,)."""
    changes: Tensor
    """How often it went from correct to wrong, i64 (N,)."""
    times: Tensor
    """How often each image was met, i64 (N,)."""

    @classmethod
    def of(cls, images: int, device: torch.device) -> "Presentations":
        """None met yet."""
        none = torch.zeros(images, dtype=torch.bool, device=device)
        return cls(none.clone(), none.clone(), none.long(), none.long())

    def met(self, index: Tensor, correct: Tensor) -> None:
        """Take note of a batch: images index (n,), all different, and whether each was classified correctly (n,)."""
        self.changes[index] += (self.correct[index] & ~correct).long()
        self.correct[index] = correct
        self.learned[index] |= correct
        self.times[index] += 1

    def counts(self) -> Tensor:
        """How often each image was forgotten, i64 (N,); one that was never learned, as often as it was met.

        In a training that is the number of epochs, as its authors count it, which no image that was learned reaches.
        """
        return torch.where(self.learned, self.changes, self.times)
