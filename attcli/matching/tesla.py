"""TESLA's approximation (ICML 2023): the adjoint with its variable held fixed.

With theta_k = start - lr sum_i g_i, TESLA differentiates each g_i in its own images and takes all theta_i as constants:

    dL/dx_i = -lr d<g_i, lambda_k>/dx        dL/dlr = -sum_i <g_i, lambda_k>        lambda_k = dL/dtheta_k

What is dropped is how earlier images move later gradients, so the result drifts from the exact gradient as lr and the
number of steps grow. (The authors' code loses lambda_k's factor 2 in the image gradient; here it is kept.)
"""

import torch
from torch import Tensor

from attcli.matching import objective
from attcli.matching.adjoint import pulled_back, trajectory
from attcli.matching.compare import EVERYTHING, Compared
from attcli.matching.engine import Batches, Match, Select, Stop
from attcli.matching.step_functions import StepFunctions


def match(
    step_functions: StepFunctions,
    start: Tensor,
    target: Tensor,
    batches: Batches,
    lr: Tensor,
    select: Select,
    stop: Stop | None = None,
    compared: Compared = EVERYTHING,
) -> Match:
    """The TESLA engine; see `attcli.matching.engine.Engine` for shapes."""
    states, distances = trajectory(step_functions, start, target, batches, lr, stop=stop, m=compared.always(target))
    k = select(distances)
    theta = states[k]
    m = compared.at(theta, target)
    loss, lam = objective.loss(theta, start, target, m), objective.slope(theta, start, target, m)
    lr_gradient = torch.zeros_like(lr)
    for i in range(k):
        lr_gradient -= pulled_back(step_functions, states[i], batches, i, lam, lr).inner
    return Match(loss, k, distances, lr_gradient)
