"""Mirror images in the student's batches (FYI, ECCV 2024): so that a set need not learn both views of a thing.

none:    images as they are, but for the augmentation.
pairs:   a batch holds half as many images, each of them once as it is and once mirrored.
random:  each image of a batch is mirrored with probability 1/2.
both:    pairs, each half mirrored at random once more, as the released code does.

Images are mirrored along their width, before the augmentation, whose own flip is left out then.
"""

import torch
from torch import Tensor

RULES = ("none", "pairs", "random", "both")


def distinct(batch: int, rule: str) -> int:
    """How many different images a batch of so many holds, at least one."""
    return max(1, batch // 2) if rule in ("pairs", "both") else batch


def mirrors(
    indices: Tensor, weights: Tensor, rule: str, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Indices (N, B') and weights (N, B') of batches with mirror images, and which they are, bool (N, B').

    They are made of batches of different images (N, B), in which images of weight 0 come last, as they do again.
    """
    mirrored = None
    if rule in ("pairs", "both"):
        counts = weights.count_nonzero(dim=1).tolist()
        steps, size = indices.shape
        mirrored = torch.zeros((steps, 2 * size), dtype=torch.bool)
        twice, halved = torch.zeros((steps, 2 * size), dtype=indices.dtype), weights.new_zeros((steps, 2 * size))
        for step, count in enumerate(counts):
            twice[step, : 2 * count] = indices[step, :count].repeat(2)
            halved[step, : 2 * count] = weights[step, :count].repeat(2) / 2
            mirrored[step, count : 2 * count] = True
        indices, weights = twice, halved
    if rule in ("random", "both"):
        tossed = torch.rand(indices.shape, generator=generator) < 0.5
        mirrored = tossed if mirrored is None else mirrored ^ tossed
    return indices, weights, mirrored


def applied(x: Tensor, mirrored: Tensor | None) -> Tensor:
    """Images (B, C, H, W), those mirrored (B,) that are to be. It is its own inverse, and its own adjoint."""
    return x if mirrored is None else torch.where(mirrored.view(-1, 1, 1, 1), x.flip(3), x)
