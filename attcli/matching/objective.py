"""The matching loss: how far the student ended from the target, in units of how far the expert went.

L = ||theta_k - target||^2 / ||start - target||^2        (MTT, CVPR 2022, eq. 2)
"""

from torch import Tensor


def loss(theta: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """L, a scalar; theta, start and target are (P,)."""
    return (theta - target).square().sum() / (start - target).square().sum()


def slope(theta: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """dL/dtheta, (P,): the adjoint variable that the backward sweep starts from."""
    return 2 * (theta - target) / (start - target).square().sum()


def distances(states: Tensor, target: Tensor) -> Tensor:
    """The L1 and L2 distances (2, N) of states (N, P) to target (P,), without an N x P temporary."""
    pairs = [(state - target) for state in states.unbind()]
    l1 = [pair.abs().sum() for pair in pairs]
    return states.new_tensor(l1 + [pair.norm() for pair in pairs]).view(2, -1)
