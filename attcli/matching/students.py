"""How a student trains on batches, and the way back through its steps: one object per optimiser of students."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from attcli.matching import adam_adjoint, adjoint
from attcli.matching.engine import Batches
from attcli.matching.step_functions import StepFunctions

Back = Callable[[Tensor], Tensor]
"""The way back: from the loss's derivative (P,) in the last parameters to that in the learning rate.

The derivatives in the batches go to the set on the way.
"""


class Training(Protocol):
    """What an optimiser of students offers."""

    def begin(self, theta: Tensor) -> Any:
        """A student with parameters theta (P,) that has made no step."""

    def train(self, step_functions: StepFunctions, student: Any, batches: Batches, lr: Tensor) -> Any:
        """The student after a step on each of the batches, at the learning rate lr, or one for each step (N,)."""

    def train_with_way_back(
        self, step_functions: StepFunctions, student: Any, batches: Batches, lr: Tensor
    ) -> tuple[Tensor, Back]:
        """The parameters (P,) after a step on each of the batches, and the way back through these steps."""


class Sgd:
    """SGD without momentum; a student is its parameters (P,)."""

    def begin(self, theta: Tensor) -> Tensor:
        """The parameters."""
        return theta

    def train(self, step_functions: StepFunctions, student: Tensor, batches: Batches, lr: Tensor) -> Tensor:
        """The parameters after all steps."""
        for step in range(len(batches)):
            gradient = step_functions.gradient(student, *batches[step])
            student = torch.addcmul(student, gradient, adjoint.rate_of(lr, step), value=-1)
        return student

    def train_with_way_back(
        self, step_functions: StepFunctions, student: Tensor, batches: Batches, lr: Tensor
    ) -> tuple[Tensor, Back]:
        """The parameters after all steps, and the adjoint of these."""
        states, n_steps = adjoint.unrolled(step_functions, student, batches, lr), len(batches)
        return states[n_steps], lambda lam: adjoint.swept(step_functions, states, batches, n_steps, lam, lr)


class Adam:
    """Adam; a student is its parameters with their moments, which count its steps."""

    def begin(self, theta: Tensor) -> adam_adjoint.Student:
        """The parameters with moments of zero."""
        return adam_adjoint.begun(theta)

    def train(
        self, step_functions: StepFunctions, student: adam_adjoint.Student, batches: Batches, lr: Tensor
    ) -> adam_adjoint.Student:
        """The parameters and moments after all steps."""
        return adam_adjoint.trained(step_functions, student, batches, lr)

    def train_with_way_back(
        self, step_functions: StepFunctions, student: adam_adjoint.Student, batches: Batches, lr: Tensor
    ) -> tuple[Tensor, Back]:
        """The parameters after all steps, and the adjoint of these."""
        training = adam_adjoint.Training(student, len(batches))
        theta = adam_adjoint.trained(step_functions, student, batches, lr, training).theta
        return theta, lambda lam: adam_adjoint.swept(step_functions, training, batches, lam, lr)


OPTIMISERS: dict[str, Training] = {"sgd": Sgd(), "adam": Adam()}
