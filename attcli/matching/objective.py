"""The matching loss: how far the student ended from the target, in units of how far the expert went.

L = ||m (theta_k - target)||^2 / ||m (start - target)||^2        (MTT, CVPR 2022, eq. 2, where m is 1)

The mask m of zeros and ones says which numbers are compared (`attcli.matching.compare`); None stands for all.
"""

import torch
from torch import Tensor


def loss(theta: Tensor, start: Tensor, target: Tensor, m: Tensor | None = None) -> Tensor:
    """L, a scalar; theta, start, target and m are (P,)."""
    return _masked(theta - target, m).square().sum() / _masked(start - target, m).square().sum()


def slope(theta: Tensor, start: Tensor, target: Tensor, m: Tensor | None = None) -> Tensor:
    """dL/dtheta, (P,): the adjoint variable that the backward sweep starts from."""
    return 2 * _masked(theta - target, m) / _masked(start - target, m).square().sum()


def distance(state: Tensor, target: Tensor, m: Tensor | None = None) -> Tensor:
    """The L1 and the L2 distance (2,) of a state (P,) to the target (P,), in the numbers that m keeps."""
    pair = _masked(state - target, m)
    return torch.stack([pair.abs().sum(), pair.norm()])


def _masked(x: Tensor, m: Tensor | None) -> Tensor:
    return x if m is None else m * x
