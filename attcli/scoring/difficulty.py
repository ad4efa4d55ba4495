"""How hard training images are, by networks that are trained on all of them for a short while.

el2n (Paul et al., NeurIPS 2021): ||softmax(f(x)) - onehot(y)||_2 after the training, the mean over the networks.
grand (the same): the norm of the loss's gradient in the parameters, ||dCE(f(x), y)/dtheta||_2, likewise.
forgetting (Toneva et al., ICLR 2019): how often an image was forgotten in the training, summed over the networks.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.func import grad, vmap

from attcli.data.inputs import TOGETHER, Inputs, in_batches
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring.begun import Begun, remove
from attcli.scoring.forgetting import Presentations
from attcli.scoring.networks import Networks
from attcli.scoring.protocol import Protocol

GRADIENTS = 1 << 24
"""Numbers of the gradients of single images that are held at a time, at least one image's."""

Judge = tuple[int, str, int]
"""The key of a network's draws: the seed, the purpose, and which of the networks it is."""

Judgement = dict[str, Tensor]
"""What one network says of N training images (N,), by the name of the score: el2n, forgetting, and grand if asked."""


def judged(
    networks: Networks,
    architecture: Architecture,
    images: Inputs,
    labels: Tensor,
    lr: float,
    protocol: Protocol,
    key: Judge,
    stop: Callable[[], bool],
    folder: Path,
    *,
    grand: bool = False,
) -> Judgement:
    """Train a network on images (N, C, H, W) with classes (N,), and ask it about them; its step functions are made.

    StoppedError where `stop` says so, asked before every pass. The training is saved in `folder`, and goes on there;
    `forget` removes it.
    """
    seen = Presentations.of(len(labels), labels.device)
    begun = Begun(folder, _saved_under(key), beside=vars(seen))
    theta = networks.trained(architecture, images, labels, lr, protocol, key, stop, seen.met, begun=begun)
    student = networks.student(architecture, theta, images)
    said = {"el2n": error_norms(student, theta, images, labels), "forgetting": seen.counts().double().cpu()}
    return {**said, "grand": gradient_norms(student, theta, images, labels)} if grand else said


def forget(folder: Path, key: Judge) -> None:
    """Remove a training that was saved on its way, as what its network says is kept."""
    remove(folder, _saved_under(key))


def _saved_under(key: Judge) -> tuple[str, str]:
    _, purpose, number = key
    return purpose, str(number)


def combined(score: str, judgements: list[Judgement]) -> Tensor:
    """The score of each image (N,) by all networks together."""
    each = torch.stack([judgement[score] for judgement in judgements])
    return each.sum(dim=0) if score == "forgetting" else each.mean(dim=0)


def error_norms(student: Student, theta: Tensor, images: Inputs, labels: Tensor) -> Tensor:
    """||softmax(f(x)) - onehot(y)||_2 of each image, f64 (N,) on the CPU."""
    parts = []
    with torch.no_grad():
        for x, y in zip(in_batches(images, TOGETHER), labels.split(TOGETHER), strict=True):
            p = student.logits(theta, x).double().softmax(dim=1)
            p[torch.arange(len(y), device=y.device), y] -= 1
            parts.append(p.norm(dim=1).cpu())
    return torch.cat(parts)


def gradient_norms(student: Student, theta: Tensor, images: Inputs, labels: Tensor) -> Tensor:
    """||dCE(f(x), y)/dtheta||_2 of each image, f64 (N,) on the CPU."""

    def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(student.logits(theta, x.unsqueeze(0)), y.unsqueeze(0))

    of_each = vmap(grad(loss), in_dims=(None, 0, 0))
    size = max(1, min(TOGETHER, GRADIENTS // len(theta)))
    parts = zip(in_batches(images, size), labels.split(size), strict=True)
    return torch.cat([of_each(theta, x, y).double().norm(dim=1).cpu() for x, y in parts])


def easiest_first(scores: Tensor, labels: Tensor, classes: int) -> list[Tensor]:
    """The indices of each class's images, from the lowest score to the highest; equal ones in their order."""
    by_class = []
    for c in range(classes):
        members = (labels == c).nonzero()[:, 0]
        by_class.append(members[scores[members].argsort(stable=True)])
    return by_class
