"""How the gradient of the matching loss is computed: the seam between the engines and all else.

An engine sees batches, not images: `batches[i]` is what the student trains on at its step i, and
`batches.pull_back` takes the derivatives in that batch back to whatever numbers the synthetic set is made of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple, Protocol

from torch import Tensor

from attcli.matching.compare import EVERYTHING, Compared
from attcli.matching.step_functions import StepFunctions


class Batch(NamedTuple):
    """Augmented images x (B, C, H, W), target probabilities p (B, K), weights w (B,) that sum to one."""

    x: Tensor
    p: Tensor
    w: Tensor


class Batches(Protocol):
    """The student's training batches of one outer iteration, and the way back from them."""

    learned_labels: bool

    def __len__(self) -> int:
        """N_S, the number of steps."""

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, detached; the same one whenever it is asked for."""

    def pull_back(self, step: int, dx: Tensor, dp: Tensor | None) -> None:
        """Add the derivatives in the batch's x, and p where labels are learned, to those of the synthetic set."""


Select = Callable[[Tensor], int]
Stop = Callable[[Tensor], bool]
"""Of the distances (2, n) after the student's first n steps: whether its training ends there."""


@dataclass(frozen=True)
class Match:
    """What one outer iteration found: loss, the matched step k, distances (2, n) in L1 and L2, dL/dlr.

    n is the number of steps that the student took: all N_S of them, or fewer where its training was stopped.
    """

    loss: Tensor
    step: int
    distances: Tensor
    lr_gradient: Tensor


class Engine(Protocol):
    """Trains the student from `start` on `batches` and differentiates the matching loss of the selected step."""

    def __call__(
        self,
        step_functions: StepFunctions,
        start: Tensor,
        target: Tensor,
        batches: Batches,
        lr: Tensor,
        select: Select,
        stop: Stop | None = None,
        compared: Compared = EVERYTHING,
    ) -> Match:
        """Start and target (P,), lr a scalar tensor; the gradient in the synthetic set goes through pull_back.

        `compared` says which of the numbers count.
        """


def load(name: str) -> Engine:
    """The engine of that name: adjoint, unroll or tesla."""
    engine: Engine = import_module(f"attcli.matching.{name}").match
    return engine
