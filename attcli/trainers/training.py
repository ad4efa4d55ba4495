"""Training of a flat vector of parameters: what trains every expert, and every network that is scored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attcli import augment
from attcli.data.inputs import Inputs
from attcli.matching.batches import plan, probabilities
from attcli.matching.step_functions import StepFunctions
from attcli.matching.student import cross_entropy


class Descends(Protocol):
    """What updates parameters by gradients."""

    lr: float

    def step(self, theta: Tensor, gradient: Tensor) -> None:
        """One update of theta (P,) by the loss's gradient (P,), which is used up."""

    def restart(self) -> None:
        """Forget all gradients so far."""

    def state(self) -> dict[str, Tensor]:
        """What it remembers of the gradients so far."""

    def resume(self, theta: Tensor, state: Mapping[str, Tensor]) -> None:
        """Remember what `state` once was, for this theta (P,)."""


@dataclass
class Optimiser:
    """SGD as torch defines it: v = momentum v + (g + weight_decay theta), theta -= lr v. Updates theta in place."""

    lr: float
    momentum: float
    weight_decay: float
    velocity: Tensor | None = None

    def step(self, theta: Tensor, gradient: Tensor) -> None:
        """One update of theta (P,) by the loss's gradient (P,), which is used up."""
        if self.weight_decay:
            gradient = gradient.add_(theta, alpha=self.weight_decay)
        if self.momentum:
            if self.velocity is None:
                self.velocity = torch.zeros_like(theta)
            gradient = self.velocity.mul_(self.momentum).add_(gradient)
        theta.sub_(gradient, alpha=self.lr)

    def restart(self) -> None:
        """Set the velocity to zero."""
        self.velocity = None

    def state(self) -> dict[str, Tensor]:
        """The velocity (P,), if there is one."""
        return {} if self.velocity is None else {"velocity": self.velocity}

    def resume(self, theta: Tensor, state: Mapping[str, Tensor]) -> None:
        """Take over a velocity."""
        self.velocity = state["velocity"].to(theta) if state else None


@dataclass
class AdamW:
    """torch's AdamW with its own betas and epsilon. Updates theta in place."""

    lr: float
    weight_decay: float
    _torchs: torch.optim.AdamW | None = None

    def step(self, theta: Tensor, gradient: Tensor) -> None:
        """One update of theta (P,), always the same one, by the loss's gradient (P,)."""
        if self._torchs is None:
            self._torchs = torch.optim.AdamW([theta], lr=self.lr, weight_decay=self.weight_decay)
        self._torchs.param_groups[0]["lr"] = self.lr
        theta.grad = gradient
        self._torchs.step()
        theta.grad = None

    def restart(self) -> None:
        """Forget all moments."""
        self._torchs = None

    def state(self) -> dict[str, Tensor]:
        """The moments (P,) and the number of steps, if there were any."""
        return {} if self._torchs is None else dict(*self._torchs.state.values())

    def resume(self, theta: Tensor, state: Mapping[str, Tensor]) -> None:
        """Take over moments, and the number of steps."""
        self._torchs = torch.optim.AdamW([theta], lr=self.lr, weight_decay=self.weight_decay) if state else None
        if self._torchs is not None:
            self._torchs.state[theta] = {name: x if name == "step" else x.to(theta) for name, x in state.items()}


Descent = Callable[[StepFunctions, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(step functions, theta, x, p, w) to the direction (P,) that a step descends, and the outputs (B, K) at theta."""


def along_the_gradient(
    step_functions: StepFunctions, theta: Tensor, x: Tensor, p: Tensor, w: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss's gradient at theta: plain SGD."""
    return step_functions.gradient_and_logits(theta, x, p, w)


def train_epoch(
    step_functions: StepFunctions,
    theta: Tensor,
    optimiser: Descends,
    images: Inputs,
    labels: Tensor,
    *,
    classes: int,
    batch: int,
    strategy: str,
    generator: torch.Generator,
    descent: Descent = along_the_gradient,
    met: Callable[[Tensor, Tensor], None] | None = None,
    cutmix: float = 0.0,
    among: Tensor | None = None,
) -> Tensor:
    """One pass over images (N, C, H, W) in a new order, each batch augmented; theta (P,) is updated in place.

    Labels are classes (N,) or logits (N, K). Returns the mean loss and the accuracy in percent (2,) in float64, both of
    the augmented batches as they were met; asking for their values is what waits for a GPU, not this function. `met` is
    told each batch's images (n,) and whether the network, before it learned from them, got them right (n,). `cutmix` is
    the probability that a batch is mixed, as `mixed` says. `among`: the indices (n,) of the images that the pass is
    over, on their device; None for all.
    """
    count = len(images) if among is None else len(among)
    batch = min(batch, count)
    drawn = plan(count, batch, -(-count // batch), strategy, generator).to(images.device)
    total = torch.zeros(2, dtype=torch.float64, device=images.device)
    for i, place in enumerate(drawn.indices):
        index = place if among is None else among[place]
        x = augment.apply(drawn.augmentations[i], images[index])
        p, w = probabilities(labels[index], classes).to(x), drawn.weights[i].to(x)
        size = min(batch, count - i * batch)
        if cutmix:
            x, p = mixed(x, p, size, cutmix, generator)
        direction, logits = descent(step_functions, theta, x, p, w)
        optimiser.step(theta, direction)
        right = logits.argmax(dim=1) == p.argmax(dim=1)
        correct = (right & (w > 0)).sum()
        total += torch.stack([cross_entropy(logits, p, w) * size, 100 * correct]).double()
        if met is not None:
            met(index[:size], right[:size])
    return total / count


def mixed(x: Tensor, p: Tensor, size: int, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) and target probabilities (B, K) after CutMix (Yun et al., ICCV 2019), or, else, as they are.

    A box, the same for all, is filled with that of another image among the first `size`; targets are mixed by the
    shares of pixels. The share that is kept is drawn from 0 to 1, the box's centre from the whole image, beyond whose
    edges the box is cut off.
    """
    draws = torch.rand(4, generator=generator).tolist()
    order = torch.randperm(size, generator=generator).to(x.device)
    if draws[0] >= probability:
        return x, p
    sides = [(1 - draws[1]) ** 0.5 * side for side in x.shape[2:]]
    centres = [draw * side for draw, side in zip(draws[2:], x.shape[2:], strict=True)]
    rows, columns = (
        slice(max(0, int(centre - cut / 2)), min(side, int(centre + cut / 2)))
        for centre, cut, side in zip(centres, sides, x.shape[2:], strict=True)
    )
    area = (rows.stop - rows.start) * (columns.stop - columns.start) / (x.shape[2] * x.shape[3])
    x, p = x.clone(), p.clone()
    x[:size, :, rows, columns] = x[order][:, :, rows, columns]
    p[:size] = (1 - area) * p[:size] + area * p[order]
    return x, p
