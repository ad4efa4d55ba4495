"""The evaluation protocol of dataset distillation: a fresh network, SGD on the set, accuracy on real images.

`exact` trains for `epochs` passes and divides the learning rate by ten from the midpoint on. `released` does what the
literature's code does when asked for 1000: 1001 passes, lr/10 from pass 502 on, with the momentum set to zero there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attcli import runtime
from attcli.data.inputs import Inputs, in_batches
from attcli.errors import UserError
from attcli.matching.parameters import vector
from attcli.matching.step_functions import StepFunctions
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.trainers.training import Optimiser, train_epoch

TEST_BATCH = {"cpu": 10, "cuda": 1000}
"""Images that are tested at a time: on a CPU few, in channels_last, so that their activations stay in the caches."""

_LAYOUT = {"cpu": torch.channels_last, "cuda": torch.contiguous_format}


@dataclass(frozen=True)
class Protocol:
    """The protocol's numbers, by default the literature's; `name` is exact or released."""

    name: str = "exact"
    epochs: int = 1000
    batch: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: str = "color_crop_cutout_flip_scale_rotate"


def schedule(protocol: Protocol) -> Iterator[tuple[float, bool]]:
    """For every pass, the learning rate's factor and whether the optimiser starts afresh with this pass."""
    released = protocol.name == "released"
    passes = protocol.epochs + released
    drop = protocol.epochs // 2 + 2 if released else protocol.epochs // 2
    for position in range(passes):
        yield (1.0 if position < drop else 0.1), (released and position == drop)


class StoppedError(Exception):
    """A training was asked to stop before its end."""


def fresh(architecture: Architecture, key: tuple[int, str, int]) -> Tensor:
    """The initial parameters (P,) of the network of a key (seed, purpose, repeat)."""
    seed, purpose, repeat = key
    return vector(runtime.seeded(architecture.build, seed, f"{purpose}-weights", repeat))


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
) -> Tensor:
    """Theta (P,), updated in place by training on images (n, C, H, W) with labels (n,) or logits (n, K).

    `key` is (seed, purpose, repeat): it alone decides orders and augmentation, as it does the initial weights, so
    different sets are met by the same networks, however many are trained. StoppedError where `stop` says so. `met` is
    told of every batch, as `train_epoch` says.
    """
    seed, purpose, repeat = key
    generator = runtime.stream(seed, f"{purpose}-training", repeat)
    optimiser = Optimiser(lr, protocol.momentum, protocol.weight_decay)
    for factor, afresh in schedule(protocol):
        if stop():
            raise StoppedError
        optimiser.lr = lr * factor
        if afresh:
            optimiser.velocity = None
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
        )
    return theta


def _answers(student: Student, theta: Tensor, images: Inputs) -> Tensor:
    """The classes (N,) that a network takes images (N, C, H, W) for."""
    size, layout = TEST_BATCH[images.device.type], _LAYOUT[images.device.type]
    with torch.no_grad():
        parts = in_batches(images, size)
        return torch.cat([student.logits(theta, x.contiguous(memory_format=layout)).argmax(dim=1) for x in parts])


def accuracy(student: Student, theta: Tensor, images: Inputs, labels: Tensor) -> float:
    """The share of images (N, C, H, W) classified as labelled (N,), in percent."""
    return 100 * int((_answers(student, theta, images) == labels).sum()) / len(labels)


def confusion(student: Student, theta: Tensor, images: Inputs, labels: Tensor, classes: int) -> Tensor:
    """How many images of each class are taken for which, i64 (K, K) on the CPU: a row for each true class."""
    pairs = labels * classes + _answers(student, theta, images)
    return torch.bincount(pairs.cpu(), minlength=classes**2).view(classes, classes)


def last_linear(module: nn.Module, classes: int) -> nn.Linear:
    """A network's last linear layer. UserError where it does not end in one with an output for each class."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear) and part.out_features == classes]
    if not linear:
        raise UserError(
            "the network that images are selected by does not end in a linear layer, whose inputs are its features; "
            "choose another one: --set evaluate.whole_arch=convnet"
        )
    return linear[-1]


def features(student: Student, theta: Tensor, images: Inputs, classes: int) -> Tensor:
    """What the last linear layer takes in for images (N, C, H, W), f64 (N, D) on the CPU. UserError without one."""
    taken_in: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        taken_in.append(inputs[0].flatten(1).double().cpu())

    handle = last_linear(student.module, classes).register_forward_pre_hook(note)
    try:
        _answers(student, theta, images)
    finally:
        handle.remove()
    return torch.cat(taken_in)
