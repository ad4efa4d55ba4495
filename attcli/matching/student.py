"""The two step functions of a student network: its gradient g, and h, the derivatives of <g, lambda>.

Both are pure. `x` (B, C, H, W) is already augmented, `p` (B, K) are target probabilities and `w` (B,) the images'
weights: the loss is sum_b w_b CE(f(x_b; theta), p_b), so a short batch of b images is a full one with w = 1/b on
b images and 0 on the rest, and all shapes stay fixed.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from attcli.matching.parameters import Layout


def cross_entropy(logits: Tensor, p: Tensor, w: Tensor) -> Tensor:
    """sum_b w_b CE(logits_b, p_b), a scalar; logits and p are (B, K), w is (B,)."""
    return -(w * (p * logits.log_softmax(dim=1)).sum(dim=1)).sum()


class Derivatives(NamedTuple):
    """The value of <g, lambda> and its derivatives; `p` is None where it was not asked for."""

    inner: Tensor
    theta: Tensor
    x: Tensor
    p: Tensor | None


@dataclass(frozen=True)
class Student:
    """A network whose parameters are given at each call as a flat vector theta (P,)."""

    module: nn.Module
    layout: Layout

    @classmethod
    def of(cls, module: nn.Module) -> "Student":
        """A student with the architecture of `module`; the module's own parameters are not used."""
        return cls(module, Layout.of(module))

    def logits(self, theta: Tensor, x: Tensor) -> Tensor:
        """The network's outputs (B, K)."""
        outputs: Tensor = functional_call(self.module, self.layout.unflatten(theta), (x,))
        return outputs

    def loss(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The weighted cross-entropy, a scalar."""
        return cross_entropy(self.logits(theta, x), p, w)

    def gradient(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """g: the gradient (P,) of the loss in theta, without a graph."""
        return self.gradient_and_logits(theta, x, p, w)[0]

    def gradient_and_logits(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """G (P,) and the outputs (B, K) that it was computed from."""
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            logits = self.logits(theta, x)
            (g,) = torch.autograd.grad(cross_entropy(logits, p, w), theta)
        return g, logits.detach()

    def derivatives(
        self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor, *, labels: bool = False
    ) -> Derivatives:
        """h: <g, lam> and its derivatives in theta (P,), x (B, C, H, W) and, with `labels`, p (B, K).

        One reverse sweep over another: the second differentiates the graph that the first one leaves.
        """
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            x = x.detach().requires_grad_()
            p = p.detach().requires_grad_(labels)
            (g,) = torch.autograd.grad(self.loss(theta, x, p, w), theta, create_graph=True)
            inner = torch.dot(g, lam)
            wanted = (theta, x, p) if labels else (theta, x)
            found = torch.autograd.grad(inner, wanted)
        return Derivatives(inner.detach(), found[0], found[1], found[2] if labels else None)
