"""How far the gradients of real and synthetic images are apart, with the derivative in the synthetic one.

a is the real images' gradient, b the synthetic ones', both (P,). Tensors of parameters that are not matched count 0.

cosine (DC, ICLR 2021): over all rows of all matched tensors, a row being the weights of one output,
    D = sum 1 - <a, b> / q          dD/db = -(a / q - <a, b> |a| b / (|b| q^2))          q = |a| |b| + 1e-6
squares (IDC, ICML 2022):   D = |a - b|^2        dD/db = 2 (b - a)
absolute (IDC):             D = |a - b|_1        dD/db = sign(b - a)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from attcli.matching.parameters import Layout

EPSILON = 1e-6

Distance = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Two gradients (R, n) of a tensor with R outputs to their distance, a scalar, and its derivative (R, n)."""


def cosine(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """One minus the cosine of each row, summed."""
    inner = (a * b).sum(dim=1, keepdim=True)
    size_a, size_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    q = size_a * size_b + EPSILON
    direction = b / size_b.clamp(min=torch.finfo(b.dtype).tiny)
    return (1 - inner / q).sum(), inner * size_a * direction / q.square() - a / q


def squares(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The squared differences, summed."""
    return (a - b).square().sum(), 2 * (b - a)


def absolute(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The absolute differences, summed."""
    return (a - b).abs().sum(), (b - a).sign()


DISTANCES: dict[str, Distance] = {"cosine": cosine, "squares": squares, "absolute": absolute}

MATCHED: dict[str, Callable[[tuple[int, ...]], bool]] = {
    "weights": lambda shape: len(shape) > 1,
    "convolutions": lambda shape: len(shape) == 4,
}
"""Which tensors of parameters are matched, by their shapes: weights, but no bias or norm; or those of convolutions."""


def between(a: Tensor, b: Tensor, layout: Layout, distance: Distance, matched: list[bool]) -> tuple[Tensor, Tensor]:
    """The distance of two gradients (P,), a scalar, and its derivative (P,) in the second one.

    matched: for each tensor of the layout whether it counts.
    """
    total, derivative = a.new_zeros(()), torch.zeros_like(b)
    pieces = zip(*(x.split(layout.sizes) for x in (a, b, derivative)), layout.shapes, matched, strict=True)
    for real, own, target, shape, counts in pieces:
        if counts:
            one, slope = distance(real.view(shape[0], -1), own.view(shape[0], -1))
            total += one
            target.copy_(slope.view(-1))
    return total, derivative
