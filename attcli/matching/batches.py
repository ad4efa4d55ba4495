"""The student's batches, cut from a set of synthetic images, and the way of derivatives back to the images."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from attcli import augment
from attcli.matching import mirror
from attcli.matching.engine import Batch

GROUP_VALUES = {"cpu": 1, "cuda": 4096 * 3 * 32 * 32}
"""Pixel values that are augmented together, at least a step's: many where launching costs more than computing."""


@dataclass(frozen=True)
class Plan:
    """The draws of one outer iteration: indices (N, B), weights f64 (N, B), the augmentation of each of the N steps.

    mirrored: which images of a batch are mirrored before that, bool (N, B); None for none of them.
    """

    indices: Tensor
    weights: Tensor
    augmentations: augment.Draws
    mirrored: Tensor | None = None

    def to(self, device: torch.device) -> "Plan":
        """The same draws on a device, sent in one copy."""
        if device.type == "cpu":
            return self
        parts = (self.indices, self.weights, self.augmentations.uniform, *_if_any(self.mirrored))
        packed = pack(parts)
        if device.type == "cuda":
            packed = packed.pin_memory()
        indices, weights, uniform, *mirrored = unpack(packed.to(device, non_blocking=True), parts)
        return Plan(indices, weights, replace(self.augmentations, uniform=uniform), *mirrored)


def _if_any(x: Tensor | None) -> tuple[Tensor, ...]:
    return () if x is None else (x,)


def pack(parts: tuple[Tensor, ...]) -> Tensor:
    """The bytes of all parts, one after the other; parts with larger elements come first, so that all are aligned."""
    return torch.cat([part.contiguous().view(torch.uint8).reshape(-1) for part in parts])


def unpack(packed: Tensor, parts: tuple[Tensor, ...]) -> list[Tensor]:
    """The parts again, as views of the packed bytes; `parts` gives types and shapes."""
    pieces = packed.split([part.numel() * part.element_size() for part in parts])
    return [piece.view(part.dtype).view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def plan(
    images: int,
    batch: int,
    n_steps: int,
    strategy: str,
    generator: torch.Generator,
    *,
    short_first: bool = False,
    mirrors: str = "none",
) -> Plan:
    """Draw `n_steps` batches: every pass over the set is a new permutation cut into chunks of `batch`.

    A pass's last chunk (or its first, as in the literature's students) may be short: it is filled up with images of
    weight 0, so that all batches have one shape. `mirrors` is a rule of `attcli.matching.mirror`.
    """
    batch = mirror.distinct(min(batch, images), mirrors)
    chunks = -(-images // batch)
    missing = chunks * batch - images if short_first else 0
    indices = torch.zeros((n_steps, batch), dtype=torch.long)
    weights = torch.zeros((n_steps, batch), dtype=torch.float64)
    order = indices[:0]
    for step in range(n_steps):
        chunk = step % chunks
        if chunk == 0:
            order = torch.randperm(images, generator=generator)
        taken = order[max(0, chunk * batch - missing) : (chunk + 1) * batch - missing]
        indices[step, : len(taken)] = taken
        weights[step, : len(taken)] = 1 / len(taken)
    if mirrors == "none":
        return Plan(indices, weights, augment.draw(strategy, n_steps, batch, generator))
    indices, weights, mirrored = mirror.mirrors(indices, weights, mirrors, generator)
    drawn = augment.draw(augment.without(strategy, "flip"), n_steps, indices.shape[1], generator)
    return Plan(indices, weights, drawn, mirrored)


def sizes(images: int, batch: int, mirrors: str) -> tuple[int, int]:
    """The images of a batch of such a plan, and those of the short one in each pass, 0 where none is short."""
    different = mirror.distinct(min(batch, images), mirrors)
    each = 2 if mirrors in ("pairs", "both") else 1
    return each * different, each * (images % different)


def probabilities(labels: Tensor, classes: int) -> Tensor:
    """Target probabilities (n, K): one-hot for class labels (n,), the softmax of logits (n, K)."""
    if labels.is_floating_point():
        return labels.softmax(dim=1)
    return torch.nn.functional.one_hot(labels, classes)


@dataclass
class SyntheticBatches:
    """The batches of a plan over images (n, C, H, W) with target probabilities (n, K), and their derivatives.

    Neighbouring steps form a group. Those of its steps that draw the same operation are augmented in one go, forwards
    and backwards, so that on a GPU the cost is that of few large operations; only one group is kept.
    """

    images: Tensor
    targets: Tensor
    plan: Plan
    learned_labels: bool = False
    _image_gradient: Tensor = field(init=False)
    _logit_gradient: Tensor = field(init=False)
    _pending_group: int = field(init=False, default=-1)
    _augmented: dict[int, Tensor] = field(init=False, default_factory=dict)
    _pending: dict[int, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._image_gradient = torch.zeros_like(self.images)
        self._logit_gradient = torch.zeros_like(self.targets)
        values = GROUP_VALUES.get(self.images.device.type, GROUP_VALUES["cpu"])
        self._group_steps = max(1, values // (self.plan.indices.shape[1] * self.images[0].numel()))

    def __len__(self) -> int:
        return len(self.plan.indices)

    def __getitem__(self, step: int) -> Batch:
        if step not in self._augmented:
            first = step - step % self._group_steps
            self._augmented = self._augment(range(first, min(first + self._group_steps, len(self))))
        weights = self.plan.weights[step].to(self.images.dtype)
        return Batch(self._augmented[step], self.targets[self.plan.indices[step]], weights)

    def pull_back(self, step: int, dx: Tensor, dp: Tensor | None) -> None:
        """Take note of the derivatives (B, C, H, W) in a step's x and (B, K) in its p."""
        if step // self._group_steps != self._pending_group:
            self._flush()
            self._pending_group = step // self._group_steps
        self._pending[step] = dx
        if dp is not None:
            index = self.plan.indices[step]
            p = self.targets[index]
            self._logit_gradient.index_add_(0, index, p * (dp - (p * dp).sum(dim=1, keepdim=True)))

    def gradients(self) -> tuple[Tensor, Tensor | None]:
        """The gradient of the matching loss in the images, and in the labels' logits where they are learned."""
        self._flush()
        return self._image_gradient, self._logit_gradient if self.learned_labels else None

    def _by_operation(self, steps: range | list[int]) -> dict[str, list[int]]:
        by_operation: dict[str, list[int]] = {}
        for step in steps:
            by_operation.setdefault(self.plan.augmentations.operations[step], []).append(step)
        return by_operation

    def _drawn(self, operation: str, steps: list[int]) -> tuple[Tensor, Tensor | None, augment.Draw]:
        """The images that these steps see, one step after the other, which are mirrored, and their common draw."""
        index = torch.cat([self.plan.indices[step] for step in steps])
        uniform = torch.cat([self.plan.augmentations.uniform[step] for step in steps])
        marks = self.plan.mirrored
        mirrored = None if marks is None else torch.cat([marks[step] for step in steps])
        return index, mirrored, augment.Draw(operation, uniform)

    def _augment(self, steps: range) -> dict[int, Tensor]:
        augmented: dict[int, Tensor] = {}
        for operation, alike in self._by_operation(steps).items():
            index, mirrored, drawn = self._drawn(operation, alike)
            x = augment.apply(drawn, mirror.applied(self.images[index], mirrored))
            augmented |= dict(zip(alike, x.chunk(len(alike)), strict=True))
        return augmented

    def _flush(self) -> None:
        """Through the augmentation, and back from mirror images, to the images."""
        for operation, alike in self._by_operation(sorted(self._pending)).items():
            index, mirrored, drawn = self._drawn(operation, alike)
            dx = torch.cat([self._pending[step] for step in alike])
            if operation:
                with torch.enable_grad():
                    images = mirror.applied(self.images[index], mirrored).requires_grad_()
                    (dx,) = torch.autograd.grad(augment.apply(drawn, images), images, dx)
            self._image_gradient.index_add_(0, index, mirror.applied(dx, mirrored))
        self._pending = {}
