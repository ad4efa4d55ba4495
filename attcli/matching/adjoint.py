"""The exact gradient of the matching loss in constant memory, by the adjoint of the student's SGD.

Forward, without a graph:    theta_{i+1} = theta_i - lr g(theta_i, x_i, p_i)          i = 0 .. N-1
At the matched step k:       lambda_k = dL/dtheta_k
Backward, i = k-1 .. 0:      lambda_i = lambda_{i+1} - lr d<g, lambda_{i+1}>/dtheta
                             dL/dx_i += -lr d<g, lambda_{i+1}>/dx          (dL/dp_i likewise)
                             dL/dlr  += -<g, lambda_{i+1}>

One step's graph is alive at a time; what grows with N is only the N x P states. The gradient is that of the full
unroll: nothing is dropped, as TESLA drops the dependence of later gradients on earlier images. lr is a scalar, or has a
learning rate for each step, and then dL/dlr does, too.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from attcli.matching import objective
from attcli.matching.compare import EVERYTHING, Compared
from attcli.matching.engine import Batches, Match, Select, Stop
from attcli.matching.step_functions import Derivatives, StepFunctions

LOOKED_EVERY = {"cpu": 1, "cuda": 8}
"""Steps between two looks at whether the training ends: at each of them, a GPU has to be waited for."""

HOST_SHARE = 0.25
"""The states stay on the device while they take no more than this share of its free memory."""


class States:
    """The student's parameters (N + 1, P) along its steps: on the device, or in host memory where it is short."""

    def __init__(self, start: Tensor, n_steps: int, storage: torch.device | None = None) -> None:
        self._device = start.device
        self.storage = storage or _storage(start, n_steps)
        try:
            self._rows = self._empty(n_steps + 1, start)
        except torch.OutOfMemoryError:  # what graphs keep for themselves was taken for free
            self.storage = torch.device("cpu")
            self._rows = self._empty(n_steps + 1, start)
        self[0] = start

    def _empty(self, count: int, start: Tensor) -> Tensor:
        pinned = self.storage.type == "cpu" and self._device.type == "cuda"
        return torch.empty((count, len(start)), dtype=start.dtype, device=self.storage, pin_memory=pinned)

    def __setitem__(self, step: int, theta: Tensor) -> None:
        self._rows[step].copy_(theta, non_blocking=True)

    def __getitem__(self, step: int) -> Tensor:
        return self._rows[step].to(self._device, non_blocking=True)


def _storage(start: Tensor, n_steps: int) -> torch.device:
    if start.device.type == "cuda":
        needed = (n_steps + 1) * start.numel() * start.element_size()
        cached = torch.cuda.memory_reserved(start.device) - torch.cuda.memory_allocated(start.device)
        if needed > HOST_SHARE * (torch.cuda.mem_get_info(start.device)[0] + cached):
            return torch.device("cpu")
    return start.device


def trajectory(
    step_functions: StepFunctions,
    start: Tensor,
    target: Tensor,
    batches: Batches,
    lr: Tensor,
    storage: torch.device | None = None,
    stop: Stop | None = None,
    m: Tensor | None = None,
) -> tuple[States, Tensor]:
    """The states from `start` (P,) on, after every SGD step on `batches`, and their distances (2, n) to `target`.

    n is the number of batches, or fewer where `stop` ends the training; on a GPU a few more steps are computed then,
    and forgotten. Distances are measured in the numbers that the mask m (P,) keeps.
    """
    distances: list[Tensor] = []
    every = LOOKED_EVERY.get(start.device.type, 1)
    looked, taken = 0, None

    def ends(theta: Tensor) -> bool:
        nonlocal looked, taken
        distances.append(objective.distance(theta, target, m))
        n = len(distances)
        if stop is None or (n % every and n < len(batches)):
            return False
        so_far = torch.stack(distances, dim=1).cpu()
        taken = next((steps for steps in range(looked + 1, n + 1) if stop(so_far[:, :steps])), None)
        looked = n
        return taken is not None

    states = unrolled(step_functions, start, batches, lr, storage, ends)
    return states, torch.stack(distances, dim=1)[:, :taken]


def rate_of(lr: Tensor, step: int) -> Tensor:
    """A view of the step's learning rate, a scalar: lr itself, or one of those of all steps (N,)."""
    return lr[step] if lr.dim() else lr


def unrolled(
    step_functions: StepFunctions,
    start: Tensor,
    batches: Batches,
    lr: Tensor,
    storage: torch.device | None = None,
    ends: Callable[[Tensor], bool] = lambda theta: False,
) -> States:
    """The states from `start` (P,) on, after every SGD step on `batches`, up to the one at which `ends` is true."""
    states = States(start, len(batches), storage)
    theta = start
    for i in range(len(batches)):
        theta = torch.addcmul(theta, step_functions.gradient(theta, *batches[i]), rate_of(lr, i), value=-1)
        states[i + 1] = theta
        if ends(theta):
            break
    return states


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
    """The adjoint engine; see `attcli.matching.engine.Engine` for shapes."""
    states, distances = trajectory(step_functions, start, target, batches, lr, stop=stop, m=compared.always(target))
    k = select(distances)
    theta = states[k]
    m = compared.at(theta, target)
    loss, lam = objective.loss(theta, start, target, m), objective.slope(theta, start, target, m)
    return Match(loss, k, distances, swept(step_functions, states, batches, k, lam, lr))


def swept(step_functions: StepFunctions, states: States, batches: Batches, k: int, lam: Tensor, lr: Tensor) -> Tensor:
    """The sweep back from lambda_k = `lam` (P,) through steps k-1 .. 0; what it leaves in the batches goes to the set.

    Returns dL/dlr, of the shape of lr.
    """
    lr_gradient = torch.zeros_like(lr)
    for i in reversed(range(k)):
        rate = rate_of(lr, i)
        derivatives = pulled_back(step_functions, states[i], batches, i, lam, rate)
        rate_of(lr_gradient, i).sub_(derivatives.inner)
        lam = torch.addcmul(lam, derivatives.theta, rate, value=-1)
    return lr_gradient


def pulled_back(
    step_functions: StepFunctions, theta: Tensor, batches: Batches, i: int, lam: Tensor, lr: Tensor
) -> Derivatives:
    """The derivatives of <g, lam> at step i and theta (P,); those in its images and labels go back to the set."""
    derivatives = step_functions.derivatives(theta, *batches[i], lam, labels=batches.learned_labels)
    batches.pull_back(i, -lr * derivatives.x, None if derivatives.p is None else -lr * derivatives.p)
    return derivatives
