"""The step functions in slices of a batch: exact, since the loss is a sum over images, and in a slice's memory.

On a CPU, slices whose activations fit the caches are also faster than one large batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from attcli.matching.step_functions import Derivatives, StepFunctions


def sliced(batch: int, at_most: int) -> int:
    """The size of equal slices, none above `at_most`, that a batch is cut into (the last is filled up)."""
    return -(-batch // -(-batch // at_most))


@dataclass(frozen=True)
class MicroBatched:
    """Steps that take a batch in slices of `size` images, the last filled up with images of weight 0.

    For networks without batch statistics only: under batch normalisation a slice's gradient is not the batch's.
    """

    step_functions: StepFunctions
    size: int

    def apart(self) -> "MicroBatched":
        """The same in slices, for another thread."""
        return MicroBatched(self.step_functions.apart(), self.size)

    def loss(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The loss of the whole batch."""
        return self.step_functions.loss(theta, x, p, w)

    def _slices(self, x: Tensor, p: Tensor, w: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """How many images of the batch each slice has, and the slice."""
        for first in range(0, len(x), self.size):
            part = slice(first, first + self.size)
            count = min(self.size, len(x) - first)
            missing = self.size - count
            yield (
                count,
                F.pad(x[part], (0, 0, 0, 0, 0, 0, 0, missing)) if missing else x[part],
                F.pad(p[part], (0, 0, 0, missing)) if missing else p[part],
                F.pad(w[part], (0, missing)) if missing else w[part],
            )

    def gradient(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The gradient g, summed over the slices."""
        if len(x) == self.size:
            return self.step_functions.gradient(theta, x, p, w)
        total = torch.zeros_like(theta)
        for _, *part in self._slices(x, p, w):
            total += self.step_functions.gradient(theta, *part)
        return total

    def gradient_and_logits(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient g, summed over the slices, and the outputs of all."""
        if len(x) == self.size:
            return self.step_functions.gradient_and_logits(theta, x, p, w)
        total, logits = torch.zeros_like(theta), torch.empty_like(p)
        done = 0
        for count, *part in self._slices(x, p, w):
            g, outputs = self.step_functions.gradient_and_logits(theta, *part)
            total += g
            logits[done : done + count] = outputs[:count]
            done += count
        return total, logits

    def derivatives(
        self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor, *, labels: bool = False
    ) -> Derivatives:
        """The derivatives: theta's is summed over the slices, those of the images are each slice's own."""
        if len(x) == self.size:
            return self.step_functions.derivatives(theta, x, p, w, lam, labels=labels)
        inner, by_theta, by_x = theta.new_zeros(()), torch.zeros_like(theta), torch.empty_like(x)
        by_p = torch.empty_like(p) if labels else None
        done = 0
        for count, xs, ps, ws in self._slices(x, p, w):
            part = self.step_functions.derivatives(theta, xs, ps, ws, lam, labels=labels)
            inner += part.inner
            by_theta += part.theta
            by_x[done : done + count] = part.x[:count]
            if by_p is not None and part.p is not None:
                by_p[done : done + count] = part.p[:count]
            done += count
        return Derivatives(inner, by_theta, by_x, by_p)


class Together(Protocol):
    """Processes that share the slices: this one's place among them, and how many they are."""

    @property
    def rank(self) -> int:
        """The place of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gathered(self, x: Tensor) -> list[Tensor]:
        """The tensors of all, which have one shape, in their order."""


@dataclass(frozen=True)
class SharedSlices(MicroBatched):
    """Slices that several processes share: each takes every n-th of them, and all add them in the same order.

    So the sums are those of `MicroBatched`, bit for bit, however many processes there are.
    """

    team: Together

    def gradient(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The gradient g, summed over all slices."""
        slices = list(self._slices(x, p, w))
        own = [self.step_functions.gradient(theta, *part).clone() for _, *part in self._mine(slices)]
        total = torch.zeros_like(theta)
        for g in self._all(own, len(slices), theta):
            total += g
        return total

    def derivatives(
        self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor, *, labels: bool = False
    ) -> Derivatives:
        """The derivatives: theta's is summed over all slices, those of the images are each slice's own."""
        slices = list(self._slices(x, p, w))
        own = [
            self._flat(self.step_functions.derivatives(theta, xs, ps, ws, lam, labels=labels))
            for _, xs, ps, ws in self._mine(slices)
        ]
        sizes = [1, theta.numel(), self.size * x[0].numel(), self.size * p[0].numel() if labels else 0]
        inner, by_theta = theta.new_zeros(()), torch.zeros_like(theta)
        by_x, by_p = torch.empty_like(x), torch.empty_like(p) if labels else None
        done = 0
        for (count, *_), row in zip(slices, self._all(own, len(slices), theta.new_empty(sum(sizes))), strict=True):
            part_inner, part_theta, part_x, part_p = row.split(sizes)
            inner += part_inner.view(())
            by_theta += part_theta
            by_x[done : done + count] = part_x.view(self.size, *x.shape[1:])[:count]
            if by_p is not None:
                by_p[done : done + count] = part_p.view(self.size, *p.shape[1:])[:count]
            done += count
        return Derivatives(inner, by_theta, by_x, by_p)

    def _mine(self, slices: list[tuple[int, Tensor, Tensor, Tensor]]) -> list[tuple[int, Tensor, Tensor, Tensor]]:
        return slices[self.team.rank :: self.team.size]

    def _flat(self, derivatives: Derivatives) -> Tensor:
        """The numbers of a slice's derivatives in one row."""
        return torch.cat([part.reshape(-1) for part in derivatives if part is not None])

    def _all(self, own: list[Tensor], count: int, like: Tensor) -> Iterator[Tensor]:
        """The rows of all slices in their order, of which this process made its own."""
        members = self.team.size
        turns = -(-count // members)
        missing = [torch.zeros_like(like)] * (turns - len(own))
        rows = self.team.gathered(torch.stack([*own, *missing]))
        for number in range(count):
            yield rows[number % members][number // members]
