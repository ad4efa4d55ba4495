"""What distilling minimises: one file per objective, found by its name.

An objective sees images, labels and the student's learning rate, and returns a loss with its gradient in each of them.
Where the images come from and how they are updated is not its business. Modules of objectives are imported without
torch, which they import where they need it.

Beside `make(inputs)` a module may have:

- `LOSS`: what it minimises, in words ("loss", where it does not say);
- `READS`: the dotted names of the settings that it reads, of those that not all objectives read, besides the options
  that it declares. What it reads and does not name is no part of a distillation's identity. Where it does not say, it
  may read all that trajectory matching reads;
- `reads_experts(distill)`: whether it reads experts (it does, where it does not say);
- `version(distill)`: a number that changes whenever the same settings come to compute something else (0, where it does
  not say);
- `remembers(distill)`: whether it has a memory (it has none);
- `has_rates(distill)`: whether each of the student's steps has a learning rate of its own (they share one);
- `check(distill)`, which raises a UserError for settings that do not go together, and `check_counts(distill, classes,
  per_class)`, which does so for numbers of images;
- `effort(distill, classes, per_class)`: what an iteration takes with so many images per class (`attcli.options.Effort`;
  as much as students' steps on the set's batches).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from attcli import registry
from attcli.errors import UserError
from attcli.options import Effort

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.matching.microbatch import Together
    from attcli.matching.step_functions import StepFunctions
    from attcli.matching.student import Student
    from attcli.networks import Architecture
    from attcli.settings import Distill, Runtime
    from attcli.store.dataset import Dataset
    from attcli.store.experts import Experts


Memory = Mapping[str, "Tensor"]
"""What an objective remembers from one iteration to the next, as named tensors, such as a network that it trains.

It is kept with the set's state, so that a distillation that is resumed goes on with the same bits. It is empty before
the first iteration, where the objective begins afresh. An update that is skipped or rejected moves nothing: the memory
stays, too, as it was before that iteration.
"""

NOTHING: Memory = MappingProxyType({})

OF_STUDENTS = ("distill.syn_steps", "distill.batch_syn", "distill.min_start_epoch", "distill.max_start_epoch")
"""What objectives read that train students on the set."""


def of_students(distill: Distill, classes: int, per_class: int) -> Effort:
    """What students' steps on the set's batches take."""
    batch = min(distill.batch_syn or classes * per_class, classes * per_class)
    return Effort(images=batch * distill.syn_steps, batch=batch, vectors=distill.syn_steps + 1)


@dataclass(frozen=True)
class Inputs:
    """What an objective may work with; its module's `make(inputs)` takes what it needs.

    data: the prepared dataset. images (n, C, H, W) are the ones that distilling begins or resumes with, on the device:
    their number, shape and type stay. team: the processes that may share the slices of a batch.
    """

    settings: Distill
    execution: Runtime
    seed: int
    architecture: Architecture
    student: Student
    experts: Experts
    data: Dataset
    images: Tensor
    team: Together


@dataclass(frozen=True)
class Slope:
    """A loss (scalar) and its gradients: images (n, C, H, W), the labels' logits (n, K) where learned, lr (scalar).

    labels: those that were used, (n,) or (n, K). facts: what the history keeps of the iteration. memory: what the
    objective remembers from now on.
    """

    loss: Tensor
    images: Tensor
    logits: Tensor | None
    lr: Tensor
    labels: Tensor
    facts: Mapping[str, Any] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)


class Objective(Protocol):
    """What a choice offers."""

    step_functions: StepFunctions

    def ahead(self, iteration: int, span: int) -> Any:
        """What chance decides for a span (from 0) of an iteration, and what is read for it.

        May run in another thread, ahead of time. An iteration is the mean over `distill.spans` of them.
        """

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: Any, memory: Memory = NOTHING) -> Slope:
        """The loss of images (n, C, H, W) with labels (n,) or logits (n, K), at the student's learning rate lr.

        `memory` is that of the last slope whose update was made. An objective without one returns none. One that has
        one must compute the same memory in every process.
        """


def loss(name: str) -> str:
    """What the objective of that name minimises, in words: its module's `LOSS`. Of one that is unknown, its loss."""
    try:
        return str(getattr(registry.module("objective", name), "LOSS", "loss"))
    except UserError:  # of another package, which is missing here
        return "loss"


def effort(distill: Distill, classes: int, per_class: int) -> Effort:
    """What an iteration of the settings' objective takes."""
    as_students = of_students(distill, classes, per_class)
    taken: Effort = registry.answer("objective", distill.objective, "effort", as_students, distill, classes, per_class)
    return taken


def load(name: str, inputs: Inputs) -> Objective:
    """The objective of that name, ready to be asked; this may compile its step functions."""
    objective: Objective = registry.module("objective", name).make(inputs)
    return objective
