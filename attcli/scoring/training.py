"""A fresh network is trained by a protocol: on a set, or on real images in its place."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attcli import runtime
from attcli.data.inputs import Inputs
from attcli.matching.balanced import cyclic
from attcli.matching.batches import SyntheticBatches, probabilities
from attcli.matching.parameters import vector
from attcli.matching.step_functions import StepFunctions
from attcli.matching.students import Sgd
from attcli.networks import Architecture
from attcli.scoring.begun import Begun
from attcli.scoring.protocol import Protocol, schedule
from attcli.trainers.training import AdamW, Descends, Optimiser, train_epoch

FIXED_STUDENT = "real-loss-student"
"""What the initial network of students that all start alike is seeded for."""


class StoppedError(Exception):
    """A training was asked to stop before its end."""


def built(architecture: Architecture, key: tuple[int, str, int], start: int | None = None) -> nn.Module:
    """The initial network of a key (seed, purpose, repeat).

    With the seed `start`, it is the one that a distillation's students of `student_start=fixed` begin as.
    """
    seed, purpose, repeat = key
    if start is not None:
        return runtime.seeded(architecture.build, start, FIXED_STUDENT)
    return runtime.seeded(architecture.build, seed, f"{purpose}-weights", repeat)


def fresh(architecture: Architecture, key: tuple[int, str, int], start: int | None = None) -> Tensor:
    """The parameters (P,) of the initial network of a key, as `built` says."""
    return vector(built(architecture, key, start))


def train(
    step_functions: StepFunctions,
    theta: Tensor,
    images: Inputs,
    labels: Tensor,
    classes: int,
    lr: float,
    protocol: Protocol,
    key: tuple[int, str, int],
    stop: Callable[[], bool] = lambda: False,
    met: Callable[[Tensor, Tensor], None] | None = None,
    after: Callable[[int, Tensor], None] | None = None,
    begun: Begun | None = None,
) -> Tensor:
    """Theta (P,), updated in place by training on images (n, C, H, W) with labels (n,) or logits (n, K).

    `key` is (seed, purpose, repeat): it alone decides orders and augmentation, as it does the initial weights, so
    different sets are met by the same networks, however many are trained. StoppedError where `stop` says so. `met` is
    told of every batch, as `train_epoch` says; `after`, after each pass, how many there were, and theta. `begun`: where
    the training goes on, and is saved.
    """
    seed, purpose, repeat = key
    generator = runtime.stream(seed, f"{purpose}-training", repeat)
    if protocol.rates:
        return _replay(step_functions, theta, images[torch.arange(len(images))], labels, classes, protocol, generator)
    optimiser: Descends = (
        AdamW(lr, protocol.weight_decay)
        if protocol.optimiser == "adamw"
        else Optimiser(lr, protocol.momentum, protocol.weight_decay)
    )
    done = begun.restore(theta, optimiser, generator) if begun is not None else 0
    planned = list(schedule(protocol))
    for passes, (factor, afresh) in enumerate(planned, 1):
        if passes <= done:
            continue
        stopped = stop()
        if begun is not None and passes > done + 1 and (stopped or begun.due):
            begun.save(passes - 1, theta, optimiser, generator)
        if stopped:
            raise StoppedError
        optimiser.lr = lr * factor
        if afresh:
            optimiser.restart()
        train_epoch(
            step_functions,
            theta,
            optimiser,
            images,
            labels,
            classes=classes,
            batch=protocol.batch,
            strategy=protocol.augment,
            generator=generator,
            met=met,
            cutmix=protocol.cutmix,
        )
        if after is not None:
            after(passes, theta)
    if begun is not None and begun.is_kept and done < len(planned):
        begun.save(len(planned), theta, optimiser, generator)
    return theta


def _replay(
    step_functions: StepFunctions,
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    classes: int,
    protocol: Protocol,
    generator: torch.Generator,
) -> Tensor:
    """Theta (P,), updated in place by the steps that students of the distillation made, each at its own rate (DD)."""
    count, batch, n_steps = len(images), min(protocol.batch, len(images)), len(protocol.rates)
    plan = cyclic(count, classes, batch, n_steps, protocol.augment, generator).to(images.device)
    batches = SyntheticBatches(images, probabilities(labels, classes).to(images), plan)
    return theta.copy_(Sgd().train(step_functions, theta, batches, theta.new_tensor(protocol.rates)))
