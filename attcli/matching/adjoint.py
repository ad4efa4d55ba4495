"""The exact gradient of the matching loss in constant memory, by the adjoint of the student's SGD.

Forward, without a graph:    theta_{i+1} = theta_i - lr g(theta_i, x_i, p_i)          i = 0 .. N-1
At the matched step k:       lambda_k = dL/dtheta_k
Backward, i = k-1 .. 0:      lambda_i = lambda_{i+1} - lr d<g, lambda_{i+1}>/dtheta
                             dL/dx_i += -lr d<g, lambda_{i+1}>/dx          (dL/dp_i likewise)
                             dL/dlr  += -<g, lambda_{i+1}>

One step's graph is alive at a time; what grows with N is only the N x P states. The gradient is that of the full
unroll: nothing is dropped, as TESLA drops the dependence of later gradients on earlier images.
"""

import torch
from torch import Tensor

from attcli.matching import objective
from attcli.matching.engine import Batches, Match, Select
from attcli.matching.student import Student


def trajectory(student: Student, start: Tensor, batches: Batches, lr: Tensor) -> Tensor:
    """The student's parameters (N + 1, P) from `start` (P,) on, after every SGD step on `batches`."""
    states = start.new_empty((len(batches) + 1, start.numel()))
    states[0] = start
    for i in range(len(batches)):
        torch.addcmul(states[i], student.gradient(states[i], *batches[i]), lr, value=-1, out=states[i + 1])
    return states


def match(student: Student, start: Tensor, target: Tensor, batches: Batches, lr: Tensor, select: Select) -> Match:
    """The adjoint engine; see `attcli.matching.engine.Engine` for shapes."""
    states = trajectory(student, start, batches, lr)
    distances = objective.distances(states[1:], target)
    k = select(distances)
    lam = objective.slope(states[k], start, target)
    lr_gradient = torch.zeros_like(lr)
    for i in reversed(range(k)):
        found = student.derivatives(states[i], *batches[i], lam, labels=batches.learned_labels)
        batches.pull_back(i, -lr * found.x, None if found.p is None else -lr * found.p)
        lr_gradient -= found.inner
        lam = torch.addcmul(lam, found.theta, lr, value=-1)
    return Match(objective.loss(states[k], start, target), k, distances, lr_gradient)
