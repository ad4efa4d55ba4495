"""Labels by which a step on the set helps on real images (LD, 2020, its second order); images may move as well.

One network is trained along with the set. Each iteration looks N steps of SGD ahead from its parameters theta, and asks
for the loss on real images there:

theta_{i+1} = theta_i - lr g(theta_i, x_b, y_b)          L = CE(f(x; theta_N), y) over real images (x, y)

Its gradient goes back through these steps, as in `attcli.objectives.real_loss`. Then the network itself takes a step of
Adam on the first of the batches, with the labels as they were; it does not go where it looked. Once the mean error on
real images over some iterations has had no new minimum for as many, a new network begins.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt

from attcli.objectives import NOTHING, OF_STUDENTS, Memory, of_students
from attcli.objectives.real_images import RealImages, RealOptions, facts

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.matching.adam_adjoint import Student
    from attcli.matching.batches import Plan, SyntheticBatches
    from attcli.objectives import Inputs, Slope
    from attcli.objectives.real_images import Tested
    from attcli.options import Effort
    from attcli.settings import Distill

LOSS = "loss on real images"

READS = OF_STUDENTS

NO_ERROR = 2.0
"""The smallest mean error before there is one: above any."""


class Options(RealOptions):
    """The options of distilling labels."""

    along_lr: PositiveFloat = Field(
        0.001, description="label-distillation: Adam's learning rate for the network that is trained along with the set"
    )
    along_patience: PositiveInt = Field(
        50,
        description="label-distillation: a new network replaces the old one when its error, averaged over this many "
        "iterations, has reached no new minimum for this many iterations",
    )


class Drawn(NamedTuple):
    """What chance decides: the batches of the steps ahead, and the real images."""

    window: Plan
    tested: Tested


class LabelDistillation:
    """The objective. All its draws follow from (seed, iteration), but for the network, which it remembers."""

    def __init__(self, inputs: Inputs) -> None:
        from attcli.objectives.trajectory import step_functions_of

        self._inputs, self._settings, self._seed = inputs, inputs.settings, inputs.seed
        self._classes, self._images = inputs.architecture.classes, len(inputs.images)
        self._real = RealImages(inputs)
        self.step_functions = step_functions_of(inputs)

    def ahead(self, iteration: int, span: int) -> Drawn:
        """Draw the batches of the steps ahead, and the real images."""
        from attcli import runtime
        from attcli.matching.batches import plan

        settings = self._settings
        generator = runtime.stream(self._seed, "label-distillation", iteration)
        batch = settings.batch_syn or self._images
        window = plan(self._images, batch, settings.syn_steps, settings.augment, generator)
        return Drawn(window, self._real.draw(generator))

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: Drawn, memory: Memory = NOTHING) -> Slope:
        """The loss on the drawn real images after the steps ahead, and its gradients."""
        from attcli.matching import students
        from attcli.matching.batches import SyntheticBatches, probabilities
        from attcli.objectives import Slope

        kept = dict(memory) or self._begin(0, images)
        network = _student(kept)
        targets = probabilities(labels, self._classes).to(images)
        learned = self._settings.labels == "learned"
        window = SyntheticBatches(images, targets, drawn.window.to(images.device), learned_labels=learned)
        theta, back = students.OPTIMISERS["sgd"].train_with_way_back(self.step_functions, network.theta, window, lr)
        loss, lam, error = self._real.loss(theta, drawn.tested)
        lr_gradient = back(lam)
        by_images, by_logits = window.gradients()
        after = self._moved_on(kept, network, window, error)
        return Slope(loss, by_images, by_logits, lr_gradient, labels, facts(len(window)), after)

    def _begin(self, number: int, like: Tensor) -> dict[str, Tensor]:
        """What is remembered of a new network: its training, its errors, and their smallest mean and its age."""
        import torch

        from attcli import runtime
        from attcli.matching import adam_adjoint
        from attcli.matching.parameters import vector

        theta = vector(
            runtime.seeded(self._inputs.architecture.build, self._seed, "label-distillation-network", number)
        )
        begun = adam_adjoint.begun(theta.to(like))
        return {
            **_named(begun, like),
            "number": torch.tensor(float(number)).to(like),
            "errors": like.new_zeros(0),
            "smallest": like.new_tensor(NO_ERROR),
            "age": like.new_zeros(()),
        }

    def _moved_on(
        self, kept: dict[str, Tensor], network: Student, window: SyntheticBatches, error: Tensor
    ) -> dict[str, Tensor]:
        """What is remembered after one more step of the network, or the begin of a new one."""
        import torch

        from attcli.matching import adam_adjoint

        patience = self._settings.along_patience
        errors = torch.cat([kept["errors"], error.view(1).to(kept["errors"])])[-patience:]
        smallest, age = kept["smallest"], kept["age"]
        if len(errors) == patience:  # before, the mean of a few errors might be low by chance
            lower = bool(errors.mean() < smallest)
            smallest, age = (errors.mean(), torch.zeros_like(error)) if lower else (smallest, age + 1)
        if float(age) > patience:
            return self._begin(int(kept["number"]) + 1, network.theta)
        gradient = self.step_functions.gradient(network.theta, *window[0])
        after = adam_adjoint.stepped(network, gradient, network.theta.new_tensor(self._settings.along_lr))
        return {
            **_named(after, network.theta), "number": kept["number"], "errors": errors, "smallest": smallest, "age": age
        }  # fmt: skip


def _named(student: Student, like: Tensor) -> dict[str, Tensor]:
    """A student as named tensors."""
    return {
        "theta": student.theta,
        "first": student.first,
        "second": student.second,
        "steps": like.new_tensor(float(student.steps)),
    }


def _student(kept: Memory) -> Student:
    from attcli.matching.adam_adjoint import Student

    return Student(kept["theta"], kept["first"], kept["second"], int(kept["steps"]))


def version(distill: Distill) -> int:
    """Since 2, a short batch comes last in a pass over the set; since 1, early errors are no minimum."""
    return 1 if distill.batch_syn is None else 2


def reads_experts(distill: Distill) -> bool:
    """It has a network of its own."""
    return False


def effort(distill: Distill, classes: int, per_class: int) -> Effort:
    """A student's steps; besides, g of the network's own step and of real images."""
    students = of_students(distill, classes, per_class)
    return replace(students, images=students.images + (students.batch + distill.real_batch) / 4, real=True)


def remembers(distill: Distill) -> bool:
    """It remembers the network that it trains along."""
    return True


def make(inputs: Inputs) -> LabelDistillation:
    """The objective for these inputs."""
    return LabelDistillation(inputs)
