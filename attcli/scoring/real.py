"""The real images that sets are scored with, as networks see them: tested on, and drawn from for the baseline."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import Lock

import torch
from torch import Tensor

from attcli.data.inputs import Inputs, network_inputs
from attcli.data.normalise import Normaliser
from attcli.store.dataset import Dataset

Labelled = tuple[Inputs, Tensor]
"""Network inputs (N, C, H, W), and their classes (N,), on the device."""


@dataclass(frozen=True)
class Real:
    """A dataset's images under one normaliser. `test` is the split that is scored on."""

    train: Callable[[Tensor], Tensor]
    """Training images by their indices."""
    whole: Callable[[], Inputs]
    """All training images: the same object for all who ask, however many trainings run side by side."""
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

    validation, lock = labelled("validation"), Lock()

    @cache
    def made_once() -> Inputs:
        return data.network_inputs("train", device, dtype, normaliser)

    def whole() -> Inputs:
        with lock:
            return made_once()

    return Real(
        train=lambda indices: inputs(data.images["train"][indices]),
        whole=whole,
        train_labels=data.labels["train"],
        validation=validation,
        test=validation if split == "validation" else labelled(split),
        sha256=data.sha256,
    )


def has_enough(real: Real, per_class: int, classes: int) -> bool:
    """Whether every class has so many training images, and some are left to choose a learning rate on."""
    smallest = int(torch.bincount(real.train_labels, minlength=classes).min())
    return per_class <= smallest and per_class * classes < len(real.train_labels)
