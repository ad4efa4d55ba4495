"""What a trained network answers for images, how many of them it classifies correctly, and its features."""

import torch
from torch import Tensor, nn

from attcli.data.inputs import Inputs, at_a_time, in_batches
from attcli.errors import UserError
from attcli.matching.student import Student

TEST_BATCH = {"cpu": 10, "cuda": 1000}
"""Images that are tested at a time: on a CPU few, in channels_last, so that their activations stay in the caches."""

_LAYOUT = {"cpu": torch.channels_last, "cuda": torch.contiguous_format}


def _answers(student: Student, theta: Tensor, images: Inputs) -> Tensor:
    """The classes (N,) that a network takes images (N, C, H, W) for."""
    size, layout = at_a_time(images, TEST_BATCH[images.device.type]), _LAYOUT[images.device.type]
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
