"""The real images that sets are scored with, as networks see them: tested on, and drawn from for the baseline."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attcli import runtime
from attcli.data.inputs import Inputs, network_inputs, of_each_class
from attcli.data.normalise import Normaliser
from attcli.store.dataset import Dataset

HELD_OUT = 2000
"""Where there is no validation split, a baseline's learning rate is chosen on so many other training images."""

Labelled = tuple[Inputs, Tensor]
"""Network inputs (N, C, H, W), and their classes (N,), on the device."""


@dataclass(frozen=True)
class Real:
    """A dataset's images under one normaliser. `test` is the split that is scored on."""

    train: Callable[[Tensor], Tensor]
    """Training images by their indices."""
    train_labels: Tensor
    validation: Labelled
    test: Labelled
    sha256: str


def load(data: Dataset, normaliser: Normaliser, split: str, device: torch.device, dtype: torch.dtype) -> Real:
    """The images of a dataset as network inputs on the device; `split` names those that are scored on."""

    def inputs(images: Tensor) -> Tensor:
        return network_inputs(images, data.about["value_scale"], normaliser).to(device, dtype)

    def labelled(name: str) -> Labelled:
        return data.network_inputs(name, device, dtype, normaliser), data.labels[name].to(device)

    validation = labelled("validation")
    return Real(
        train=lambda indices: inputs(data.images["train"][indices]),
        train_labels=data.labels["train"],
        validation=validation,
        test=validation if split == "validation" else labelled(split),
        sha256=data.sha256,
    )


@dataclass(frozen=True)
class RandomImages:
    """A baseline: random real images with classes (n,), and held-out ones to choose a learning rate on."""

    images: Tensor
    labels: Tensor
    held_out: Labelled


def random_images(real: Real, per_class: int, classes: int, seed: int, repeat: int) -> RandomImages:
    """So many random training images of each class, other ones for each repeat."""
    generator = runtime.stream(seed, "random-images", repeat)
    indices = of_each_class(real.train_labels, [per_class] * classes, generator)
    held_out = real.validation
    device = real.test[1].device
    if not len(held_out[1]):
        order = torch.randperm(len(real.train_labels), generator=generator)
        others = order[~torch.isin(order, indices)][:HELD_OUT]
        held_out = real.train(others), real.train_labels[others].to(device)
    return RandomImages(real.train(indices), real.train_labels[indices].to(device), held_out)


def has_enough(real: Real, per_class: int, classes: int) -> bool:
    """Whether every class has so many training images, and some are left to choose a learning rate on."""
    smallest = int(torch.bincount(real.train_labels, minlength=classes).min())
    return per_class <= smallest and per_class * classes < len(real.train_labels)
