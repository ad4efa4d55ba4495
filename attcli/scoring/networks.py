"""The networks that sets are scored with: what each architecture's trainings share, and one training."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attcli import execution
from attcli.matching.steps import Steps
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring.parallel import in_this_thread
from attcli.scoring.protocol import Protocol, accuracy, confusion, features, fresh, train
from attcli.scoring.real import Labelled
from attcli.settings import Runtime

Key = tuple[int, str, int]
"""Seed, purpose and repeat: it alone decides initial weights, orders and augmentation."""


@dataclass
class Networks:
    """Architectures whose step functions are made, and perhaps compiled, once for all their trainings."""

    device: torch.device
    precision: str
    how: Runtime
    _students: dict[Architecture, Student] = field(default_factory=dict)
    _step_functions: dict[Architecture, Steps] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """What parameters and images are kept in."""
        return execution.dtype(self.precision)

    def prepare(self, architecture: Architecture, images: Tensor, batch: int, passes: int) -> None:
        """Make an architecture's step functions for sets like `images` (n, C, H, W), for `passes` over it in all."""
        if architecture in self._students:
            return
        execution.set_precision(self.precision)
        student = execution.student(architecture.build, self.device, self.precision)
        batch = min(batch, len(images))
        work = execution.Work(
            image=tuple(images.shape[1:]),
            classes=architecture.classes,
            batch=batch,
            images=len(images) * passes,
            filled_up=len(images) % batch > 0,
            dtype=self.dtype,
        )
        self._students[architecture] = student
        self._step_functions[architecture] = execution.steps(
            student, architecture.build, work, self.device, self.how.execution, self.how.micro_batch
        )

    def trained(
        self,
        architecture: Architecture,
        images: Tensor,
        labels: Tensor,
        lr: float,
        protocol: Protocol,
        key: Key,
        stop: Callable[[], bool],
        met: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """The parameters (P,) of a fresh network after training on images with classes (n,) or logits (n, K).

        `met` is told of every batch, as `train_epoch` says.
        """
        theta = fresh(architecture, key).to(self.device, self.dtype)
        step_functions = in_this_thread(self._step_functions[architecture], self.device)
        return train(step_functions, theta, images, labels, architecture.classes, lr, protocol, key, stop, met)

    def accuracy(self, architecture: Architecture, theta: Tensor, tested: Labelled) -> float:
        """The accuracy in percent of a network with these parameters."""
        return accuracy(self._student(architecture), theta, *tested)

    def tested(self, architecture: Architecture, theta: Tensor, tested: Labelled) -> dict[str, Any]:
        """The test of a network with these parameters: its accuracy in percent, and its confusion matrix."""
        counts = confusion(self._student(architecture), theta, *tested, architecture.classes)
        return {"accuracy": 100 * int(counts.trace()) / len(tested[1]), "confusion": counts.tolist()}

    def features(self, architecture: Architecture, theta: Tensor, images: Tensor) -> Tensor:
        """What the last linear layer of a network with these parameters takes in, f64 (n, D) on the CPU."""
        return features(self._student(architecture), theta, images, architecture.classes)

    def _student(self, architecture: Architecture) -> Student:
        return in_this_thread(self._students[architecture], self.device)
