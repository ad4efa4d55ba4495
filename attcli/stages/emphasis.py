"""Emphasis (EDF, CVPR 2025): the gradient in an image is larger where an expert looks for the image's class.

The weights are part of the state. They are made anew every `emphasis_every` iterations; which expert looks, and the
noise, follow from the seed and that iteration, so that a distillation that is resumed goes on with the same bits.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attcli import runtime
from attcli.data.inputs import at_a_time
from attcli.errors import UserError
from attcli.matching import cam
from attcli.matching.statistics import calibrated
from attcli.matching.student import Student
from attcli.objectives import Memory, Slope
from attcli.settings import Settings
from attcli.settings.choices import idle
from attcli.store.experts import Experts

WEIGHTS, SINCE = "emphasis", "emphasis_since"
"""Names in the memory: the weights (n, H, W), and the iteration that they were made in."""


def begin(settings: Settings, experts: Experts, student: Student, images: Tensor) -> "Emphasis | None":
    """What weights the gradients of such images (n, C, H, W), if the settings ask for it.

    UserError for a network without feature maps.
    """
    distill = settings.distill
    if distill.emphasis == "none" or "distill.emphasis" in idle(settings):
        return None
    try:
        with torch.no_grad():
            cam.feature_maps(student, images.new_zeros(student.layout.size), images[:2])
    except ValueError:
        raise UserError(
            f"distill.emphasis cam needs a network with feature maps, and {settings.network.arch} has none; set "
            f"distill.emphasis=none"
        ) from None
    return Emphasis(settings, experts, student.apart())


@dataclass(frozen=True)
class Emphasis:
    """Weights the gradients of images, by the settings of `distill`."""

    settings: Settings
    experts: Experts
    student: Student

    def weighted(self, slope: Slope, images: Tensor, labels: Tensor, iteration: int, memory: Memory) -> Slope:
        """The slope with weighted gradients in images (n, C, H, W) of labels (n,) or (n, K); and what is remembered."""
        every = self.settings.distill.emphasis_every
        if WEIGHTS not in memory or iteration - int(memory[SINCE]) >= every:
            memory = self._made(images, labels, iteration)
        kept = {name: memory[name] for name in (WEIGHTS, SINCE)}
        weights = kept[WEIGHTS].to(images).unsqueeze(1)
        return replace(slope, images=slope.images * weights, memory={**slope.memory, **kept})

    def _made(self, images: Tensor, labels: Tensor, iteration: int) -> Memory:
        """The weights for images as they are in an iteration, by a drawn expert at the end of its training."""
        distill = self.settings.distill
        generator = runtime.stream(self.settings.seed_of("distill"), "emphasis", iteration)
        expert = int(torch.randint(len(self.experts), (), generator=generator))
        epoch = self.settings.epochs
        theta = torch.from_numpy(self.experts.rows(expert, (epoch, epoch))[0]).to(images)
        classes = labels.argmax(dim=1) if labels.is_floating_point() else labels
        student = calibrated(self.student, theta, images)
        attention = []
        size = at_a_time(images)
        for x, y in zip(images.split(size), classes.split(size), strict=True):
            noise = torch.randn((cam.COPIES, *x.shape), generator=generator, dtype=torch.float32)
            attention.append(cam.maps(student, theta, x, y, noise.to(images)))
        made = cam.weights(torch.cat(attention), distill.emphasis_added)
        return {WEIGHTS: made, SINCE: torch.tensor(iteration, device=images.device)}
