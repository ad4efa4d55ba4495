"""The networks that sets are scored with: what each architecture's trainings share, and one training."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attcli import execution
from attcli.data.inputs import Inputs
from attcli.matching.statistics import calibrated, unfilled
from attcli.matching.step_functions import StepFunctions
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring.begun import Begun
from attcli.scoring.parallel import in_this_thread
from attcli.scoring.protocol import Protocol
from attcli.scoring.real import Labelled
from attcli.scoring.testing import accuracy, confusion, features, last_linear
from attcli.scoring.training import fresh, train
from attcli.settings import Runtime

Key = tuple[int, str, int]
"""Seed, purpose and repeat: it alone decides initial weights, orders and augmentation."""

ONE_AT_A_TIME = ("cuda",)
"""Devices on which step functions of one architecture at a time are kept: recorded graphs hold memory of their own."""


@dataclass
class Networks:
    """Architectures whose step functions are made, and perhaps compiled, once for all their trainings."""

    device: torch.device
    precision: str
    how: Runtime
    _students: dict[Architecture, Student] = field(default_factory=dict)
    _step_functions: dict[tuple[Architecture, int], StepFunctions] = field(default_factory=dict)
    """By the network and the number of images in a batch."""

    @property
    def dtype(self) -> torch.dtype:
        """What parameters and images are kept in."""
        return execution.dtype(self.precision)

    def prepare(self, architecture: Architecture, images: Tensor, batch: int, passes: int) -> None:
        """Make an architecture's step functions for sets like `images` (n, C, H, W), for `passes` over it in all.

        Sets of other sizes whose batches have as many images share them. On a GPU, those of other architectures go.
        """
        batch = min(batch, len(images))
        if (architecture, batch) in self._step_functions:
            return
        if self.device.type in ONE_AT_A_TIME:
            for other in [key for key in self._step_functions if key[0] != architecture]:
                del self._step_functions[other]
        execution.set_precision(self.precision)
        if architecture not in self._students:
            self._students[architecture] = execution.student(architecture.build, self.device, self.precision)
        student = self._students[architecture]
        work = execution.Work(
            image=tuple(images.shape[1:]),
            classes=architecture.classes,
            batch=batch,
            images=len(images) * passes,
            short=len(images) % batch,
            dtype=self.dtype,
        )
        steps = execution.step_functions(
            student, architecture.build, work, self.device, self.how.execution, self.how.micro_batch
        )
        if not work.short:  # another set with such batches may leave a short one
            steps = unfilled(steps, student.module)
        self._step_functions[architecture, batch] = steps

    def trained(
        self,
        architecture: Architecture,
        images: Inputs,
        labels: Tensor,
        lr: float,
        protocol: Protocol,
        key: Key,
        stop: Callable[[], bool],
        met: Callable[[Tensor, Tensor], None] | None = None,
        after: Callable[[int, Tensor], None] | None = None,
        begun: Begun | None = None,
    ) -> Tensor:
        """The parameters (P,) of a fresh network after training on images with classes (n,) or logits (n, K).

        `met` is told of every batch, as `train_epoch` says, and `after` of theta after each pass. `begun`: where the
        training goes on, and is saved.
        """
        theta = fresh(architecture, key, protocol.start).to(self.device, self.dtype)
        batch = min(protocol.batch, len(images))
        steps = in_this_thread(self._step_functions[architecture, batch], self.device)
        return train(steps, theta, images, labels, architecture.classes, lr, protocol, key, stop, met, after, begun)

    def accuracy(self, architecture: Architecture, theta: Tensor, trained_on: Inputs, tested: Labelled) -> float:
        """The accuracy in percent of a network with these parameters; batch norms have the statistics of `trained_on`.

        trained_on: the images (n, C, H, W) that it was trained on.
        """
        return accuracy(self.student(architecture, theta, trained_on), theta, *tested)

    def tested(self, architecture: Architecture, theta: Tensor, trained_on: Inputs, tested: Labelled) -> dict[str, Any]:
        """The test of such a network: its accuracy in percent, and its confusion matrix."""
        student = self.student(architecture, theta, trained_on)
        counts = confusion(student, theta, *tested, architecture.classes)
        return {"accuracy": 100 * int(counts.trace()) / len(tested[1]), "confusion": counts.tolist()}

    def check_has_features(self, architecture: Architecture) -> None:
        """UserError for a network that `reader` does not read; its step functions are made."""
        last_linear(self._students[architecture].module, architecture.classes)

    def reader(self, architecture: Architecture, theta: Tensor, trained_on: Inputs) -> Callable[[Inputs], Tensor]:
        """Takes images to what the last linear layer of such a network takes in for them, f64 (n, D) on the CPU."""
        student = self.student(architecture, theta, trained_on)
        return lambda images: features(student, theta, images, architecture.classes)

    def student(self, architecture: Architecture, theta: Tensor, trained_on: Inputs) -> Student:
        """The student that tests these parameters: its batch norms have the statistics of `trained_on`."""
        return calibrated(in_this_thread(self._students[architecture], self.device), theta, trained_on)
