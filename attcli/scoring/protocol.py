"""The evaluation protocol of dataset distillation: a fresh network, SGD on the set, accuracy on real images.

`exact` trains for `epochs` passes and divides the learning rate by ten from the midpoint on. `released` does what the
literature's code does when asked for 1000: 1001 passes, lr/10 from pass 502 on, with the momentum set to zero there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attcli import runtime
from attcli.experts.sgd import Optimiser, train_epoch
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture

TEST_BATCH = 500


@dataclass(frozen=True)
class Protocol:
    """The protocol's numbers; `name` is exact or released."""

    name: str
    epochs: int
    batch: int
    momentum: float
    weight_decay: float
    augment: str


def schedule(protocol: Protocol) -> Iterator[tuple[float, bool]]:
    """For every pass, the learning rate's factor and whether the optimiser starts afresh with this pass."""
    released = protocol.name == "released"
    passes = protocol.epochs + released
    drop = protocol.epochs // 2 + 2 if released else protocol.epochs // 2
    for position in range(passes):
        yield (1.0 if position < drop else 0.1), (released and position == drop)


def train(
    architecture: Architecture,
    images: Tensor,
    labels: Tensor,
    lr: float,
    protocol: Protocol,
    key: tuple[int, str, int],
) -> tuple[Student, Tensor]:
    """A fresh network trained on images (n, C, H, W) with labels (n,) or logits (n, K).

    `key` is (seed, purpose, repeat): it alone decides initial weights, orders and augmentation, so different sets
    are met by the same networks. Returns the network and its parameters (P,).
    """
    seed, purpose, repeat = key
    module = runtime.seeded(architecture.build, seed, f"{purpose}-weights", repeat).to(images.device)
    student, theta = Student.of(module), vector(module)
    generator = runtime.stream(seed, f"{purpose}-training", repeat)
    optimiser = Optimiser(lr, protocol.momentum, protocol.weight_decay)
    for factor, afresh in schedule(protocol):
        optimiser.lr = lr * factor
        if afresh:
            optimiser.velocity = None
        train_epoch(
            student,
            theta,
            optimiser,
            images,
            labels,
            classes=architecture.classes,
            batch=protocol.batch,
            strategy=protocol.augment,
            generator=generator,
        )
    return student, theta


def accuracy(student: Student, theta: Tensor, images: Tensor, labels: Tensor) -> float:
    """The share of images (N, C, H, W) classified as labelled (N,), in percent."""
    with torch.no_grad():
        parts = zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True)
        correct = [(student.logits(theta, x).argmax(dim=1) == y).sum() for x, y in parts]
    return 100 * int(torch.stack(correct).sum()) / len(labels)
