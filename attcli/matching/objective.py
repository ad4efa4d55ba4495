"""The matching loss: how far the student ended from the target, in units of how far the expert went.

L = ||theta_k - target||^2 / ||start - target||^2        (MTT, CVPR 2022, eq. 2)
"""

import torch
from torch import Tensor


def loss(theta: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """L, a scalar; theta, start and target are (P,)."""
    return (theta - target).square().sum() / (start - target).square().sum()


def slope(theta: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """dL/dtheta, (P,): the adjoint variable that the backward sweep starts from."""
    return 2 * (theta - target) / (start - target).square().sum()


def distance(state: Tensor, target: Tensor) -> Tensor:
    """The L1 and the L2 distance (2,) of a state (P,) to the target (P,)."""
    pair = state - target
    return torch.stack([pair.abs().sum(), pair.norm()])
