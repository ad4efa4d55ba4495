"""Matching problems in float64, small enough for the plain full unroll."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attcli.matching.batches import Plan, SyntheticBatches, plan, probabilities
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.runtime import stream

IMAGES, STEPS, CLASSES = 12, 7, 10
DSA = "color_crop_cutout_flip_scale_rotate"


@dataclass(frozen=True)
class Case:
    """A student, the span of an expert, and the synthetic set with its draws."""

    student: Student
    start: Tensor
    target: Tensor
    images: Tensor
    labels: Tensor
    plan: Plan

    @property
    def batches(self) -> SyntheticBatches:
        """The student's batches, with no derivatives yet."""
        targets = probabilities(self.labels, CLASSES).to(self.images)
        return SyntheticBatches(self.images, targets, self.plan, learned_labels=self.labels.is_floating_point())


def case(batch: int, strategy: str = "none", *, soft: bool = False, arch: str = "convnet", steps: int = STEPS) -> Case:
    """12 images 8x8 of ten classes; float64 where that is torch's default."""
    torch.manual_seed(0)
    options = {"width": 8, "depth": 2} if arch == "convnet" else {}
    student = Student.of(Architecture(arch, 1, CLASSES, 8, options).build())
    start = vector(student.module)
    target = start + 0.02 * torch.randn_like(start)
    images = torch.randn(IMAGES, 1, 8, 8)
    labels = torch.randn(IMAGES, CLASSES) if soft else torch.arange(IMAGES) % CLASSES
    drawn = plan(IMAGES, batch, STEPS, strategy, stream(0, "plan"))
    augmentations = replace(
        drawn.augmentations,
        operations=drawn.augmentations.operations[:steps],
        uniform=drawn.augmentations.uniform[:steps].to(start),
    )
    return Case(
        student,
        start,
        target,
        images,
        labels,
        Plan(drawn.indices[:steps], drawn.weights[:steps].to(start), augmentations),
    )


def relative(found: Tensor, wanted: Tensor) -> float:
    """The distance of `found` from `wanted` in units of its norm."""
    return float((found - wanted.detach()).norm() / wanted.detach().norm())
