"""Networks whose output for an image depends on the other images of its batch, as under batch normalisation.

While they train, they see batches just as they are: a short one is not filled up with images of weight 0, which would
take part in its mean and deviation (`Unfilled`). When they are tested, their norms use fixed statistics, those of the
images that they were trained on (`calibrated`), so that an image's output does not depend on its neighbours.
"""

import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from attcli.matching.step_functions import Derivatives, StepFunctions
from attcli.matching.student import Student, batch_norms, has_batch_statistics

TOGETHER = 256
"""Images of one batch when statistics are collected: as many as networks are trained on at a time."""


class Images(Protocol):
    """Images (N, C, H, W) that are read by their indices (B,): a tensor, or images that are held elsewhere."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """The images with these indices, (B, C, H, W)."""


def unfilled(step_functions: StepFunctions, module: nn.Module) -> StepFunctions:
    """The step functions of a network as they have to be called with batches that may be filled up."""
    return Unfilled(step_functions) if has_batch_statistics(module) else step_functions


@dataclass(frozen=True)
class Unfilled:
    """Step functions that leave out the images of weight 0 with which the end of a short batch is filled up.

    What is returned has the shape of the whole batch, with zeros for what was left out. On a GPU each call waits for
    the number of images.
    """

    step_functions: StepFunctions

    def apart(self) -> "Unfilled":
        """The same for another thread."""
        return Unfilled(self.step_functions.apart())

    def _kept(self, *parts: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        count = int(w.count_nonzero())
        return tuple(part[:count] for part in (*parts, w))

    def loss(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The loss of the images that count."""
        return self.step_functions.loss(theta, *self._kept(x, p, w=w))

    def gradient(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The gradient g (P,)."""
        return self.step_functions.gradient(theta, *self._kept(x, p, w=w))

    def gradient_and_logits(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient g (P,) and the outputs (B, K)."""
        g, logits = self.step_functions.gradient_and_logits(theta, *self._kept(x, p, w=w))
        return g, _refilled(logits, len(x))

    def derivatives(
        self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor, *, labels: bool = False
    ) -> Derivatives:
        """The inner product <g, lam> and its derivatives."""
        xs, ps, ws = self._kept(x, p, w=w)
        kept = self.step_functions.derivatives(theta, xs, ps, ws, lam, labels=labels)
        by_p = None if kept.p is None else _refilled(kept.p, len(x))
        return Derivatives(kept.inner, kept.theta, _refilled(kept.x, len(x)), by_p)


def _refilled(rows: Tensor, length: int) -> Tensor:
    """The rows, and zeros up to this length."""
    missing = length - len(rows)
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows


def calibrate(
    module: nn.Module, norms: Iterable[nn.modules.batchnorm._BatchNorm], parameters: Mapping[str, Tensor], x: Images
) -> None:
    """Give these norms of a module the statistics of images (N, C, H, W), by one pass over them, and set eval mode.

    The pass takes the images in their order, in batches of nearly equal size, and averages the batches' statistics.
    """
    norms, like = list(norms), next(iter(parameters.values()))
    module.eval()
    for norm in norms:
        norm.train()
        norm.track_running_stats = True
        norm.running_mean = torch.zeros(norm.num_features, dtype=like.dtype, device=like.device)
        norm.running_var = torch.ones_like(norm.running_mean)
        norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=like.device)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain mean of what is met
    with torch.no_grad():
        for part in torch.arange(len(x)).tensor_split(math.ceil(len(x) / TOGETHER)):
            functional_call(module, dict(parameters), (x[part],))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()


def calibrated(student: Student, theta: Tensor, x: Images) -> Student:
    """A student to be tested with parameters theta (P,): its norms have the statistics of images x (N, C, H, W).

    Networks without batch statistics are returned as they are.
    """
    if not has_batch_statistics(student.module):
        return student
    module = deepcopy(student.module)
    calibrate(module, batch_norms(module), student.layout.unflatten(theta), x)
    return Student(module.to(student.dtype or theta.dtype), student.layout, student.dtype)
