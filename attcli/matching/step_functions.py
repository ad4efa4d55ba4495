"""The seam between an engine and the execution of its two step functions, g and h.

Both are pure. `x` (B, C, H, W) is already augmented, `p` (B, K) are target probabilities and `w` (B,) the images'
weights: the loss is sum_b w_b CE(f(x_b; theta), p_b), so a short batch of b images is a full one with w = 1/b on
b images and 0 on the rest, and all shapes stay fixed.
"""

from typing import NamedTuple, Protocol

from torch import Tensor


class Derivatives(NamedTuple):
    """The value of <g, lambda> and its derivatives; `p` is None where it was not asked for."""

    inner: Tensor
    theta: Tensor
    x: Tensor
    p: Tensor | None


class StepFunctions(Protocol):
    """g and h of one network: eager (`Student`), compiled, replayed as CUDA graphs, or in micro-batches.

    What is returned may be overwritten by the next call of the same function, as a graph's outputs are.
    """

    def apart(self) -> "StepFunctions":
        """The same step functions for another thread. Calling one object from two threads at once is not allowed."""

    def loss(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The weighted cross-entropy, a scalar that autograd can differentiate; always eager."""

    def gradient_and_logits(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient g (P,) of the loss in theta, and the outputs (B, K) that it was computed from."""

    def gradient(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The gradient g alone."""

    def derivatives(
        self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor, *, labels: bool = False
    ) -> Derivatives:
        """The step h: <g, lam> with its derivatives in theta (P,), x (B, C, H, W) and, with `labels`, p (B, K)."""
