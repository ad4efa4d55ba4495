"""Batches of a student that hold equally many images of each class.

The set's images stand class by class, as many of each. A batch of B images takes B / K of each of the K classes, or one
image of each of B classes where B is smaller than K.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from attcli import augment
from attcli.matching.batches import Plan


def balanced(images: int, classes: int, batch: int, n_steps: int, strategy: str, generator: torch.Generator) -> Plan:
    """Draw `n_steps` balanced batches: every image of a class is taken once before one of them is taken again.

    Where a batch has fewer images than there are classes, classes take turns likewise.
    """
    per_class, length = images // classes, n_steps * max(1, batch // classes)
    if batch < classes:
        length = n_steps * batch
        of_class = _turns(classes, length, generator, batch)[0]  # of each image of each batch
    else:
        of_class = torch.arange(classes).repeat_interleave(batch // classes).repeat(n_steps)
    members = _turns(per_class, length, generator, max(1, batch // classes), rows=classes)
    counts = F.one_hot(of_class, classes).cumsum(dim=0)  # how often each class was taken, up to each image
    turn = counts.gather(1, of_class.unsqueeze(1))[:, 0] - 1
    return _plan((of_class * per_class + members[of_class, turn]).view(n_steps, batch), strategy, generator)


def cyclic(
    images: int, classes: int, batch: int, n_steps: int, strategy: str, generator: torch.Generator, first: int = 0
) -> Plan:
    """Balanced batches that are always the same ones, in the same order, over and over (DD), from the `first` one on.

    The set is cut into images / B batches: the first holds the first B / K images of each class, and so on.
    """
    per_class, each = images // classes, batch // classes
    place = (first + torch.arange(n_steps)).unsqueeze(1) * each + torch.arange(each)  # (N, B / K)
    indices = (torch.arange(classes) * per_class).view(1, -1, 1) + (place % per_class).unsqueeze(1)
    return _plan(indices.reshape(n_steps, batch), strategy, generator)


def _turns(count: int, length: int, generator: torch.Generator, batch: int, rows: int = 1) -> Tensor:
    """`length` numbers below `count` in each row (rows, length): every pass over all of them is a new permutation.

    Those of a batch are different ones, also where it begins in one pass and ends in the next.
    """
    passes = max(1, -(-length // count))
    keys = torch.rand((rows, passes, count), generator=generator, dtype=torch.float64)
    orders = keys.argsort(dim=2, stable=True)
    if count % batch:
        taken = orders[:, 0]
        for order in orders[:, 1:].unbind(dim=1):
            begun = taken[:, taken.shape[1] - taken.shape[1] % batch :]  # the batch that has begun
            again = (order.unsqueeze(2) == begun.unsqueeze(1)).any(dim=2)
            taken = torch.cat([taken, order.gather(1, again.int().argsort(dim=1, stable=True))], dim=1)
        return taken[:, :length]
    return orders.reshape(rows, -1)[:, :length]


def _plan(indices: Tensor, strategy: str, generator: torch.Generator) -> Plan:
    """The plan with these images (N, B), which all have the same weight."""
    n_steps, batch = indices.shape
    weights = torch.full((n_steps, batch), 1 / batch, dtype=torch.float64)
    return Plan(indices, weights, augment.draw(strategy, n_steps, batch, generator))
