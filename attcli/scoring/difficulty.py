"""How hard training images are, by networks that are trained on all of them for a short while.

el2n (Paul et al., NeurIPS 2021): ||softmax(f(x)) - onehot(y)||_2 after the training, the mean over the networks.
forgetting (Toneva et al., ICLR 2019): how often an image was forgotten in the training, summed over the networks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attcli.data.inputs import Inputs, in_batches
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring.forgetting import Presentations
from attcli.scoring.networks import Networks
from attcli.scoring.protocol import Protocol

TOGETHER = 250
"""Images that a network judges at a time."""


@dataclass(frozen=True)
class Judgement:
    """What one network says of N training images: their error norms f64 (N,), and how often each was forgotten (N,)."""

    el2n: Tensor
    forgotten: Tensor


def judged(
    networks: Networks,
    architecture: Architecture,
    images: Inputs,
    labels: Tensor,
    lr: float,
    protocol: Protocol,
    key: tuple[int, str, int],
    stop: Callable[[], bool],
) -> Judgement:
    """Train a network on images (N, C, H, W) with classes (N,), and ask it about them; its step functions are made.

    StoppedError where `stop` says so, asked before every pass.
    """
    seen = Presentations.of(len(labels), labels.device)
    theta = networks.trained(architecture, images, labels, lr, protocol, key, stop, seen.met)
    errors = error_norms(networks.student(architecture, theta, images), theta, images, labels)
    return Judgement(errors, seen.counts().cpu())


def error_norms(student: Student, theta: Tensor, images: Inputs, labels: Tensor) -> Tensor:
    """||softmax(f(x)) - onehot(y)||_2 of each image, f64 (N,) on the CPU."""
    parts = []
    with torch.no_grad():
        for x, y in zip(in_batches(images, TOGETHER), labels.split(TOGETHER), strict=True):
            p = student.logits(theta, x).double().softmax(dim=1)
            p[torch.arange(len(y), device=y.device), y] -= 1
            parts.append(p.norm(dim=1).cpu())
    return torch.cat(parts)


def easiest_first(scores: Tensor, labels: Tensor, classes: int) -> list[Tensor]:
    """The indices of each class's images, from the lowest score to the highest; equal ones in their order."""
    by_class = []
    for c in range(classes):
        members = (labels == c).nonzero()[:, 0]
        by_class.append(members[scores[members].argsort(stable=True)])
    return by_class
