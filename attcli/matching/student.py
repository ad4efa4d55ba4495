"""The step functions g and h of a student network, computed eagerly (see `attcli.matching.step_functions`)."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from attcli.matching.parameters import Layout
from attcli.matching.step_functions import Derivatives


def cross_entropy(logits: Tensor, p: Tensor, w: Tensor) -> Tensor:
    """sum_b w_b CE(logits_b, p_b), a scalar; logits and p are (B, K), w is (B,)."""
    return -(w * (p * logits.log_softmax(dim=1)).sum(dim=1)).sum()


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The layers of a module that normalise over the batch."""
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


def has_batch_statistics(module: nn.Module) -> bool:
    """Whether an image's output depends on the other images of its batch, as under batch normalisation."""
    return bool(batch_norms(module))


def pure(module: nn.Module) -> nn.Module:
    """The same module, in training mode, without running statistics and without dropout."""
    module.train()
    for norm in batch_norms(module):
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.eval()
    return module


@dataclass(frozen=True)
class Student:
    """A network whose parameters are given at each call as a flat vector theta (P,).

    With `dtype` bfloat16 the network computes in it, from theta, images and to derivatives in float32.
    """

    module: nn.Module
    layout: Layout
    dtype: torch.dtype | None = None

    @classmethod
    def of(cls, module: nn.Module, dtype: torch.dtype | None = None) -> "Student":
        """A student with the architecture of `module`; the module's own parameters are not used.

        The module is made a pure function of parameters and images: batch norms use the statistics of the batch at hand
        and keep none, dropout is off.
        """
        return cls(pure(module), Layout.of(module), dtype)

    def apart(self) -> "Student":
        """The same student with a module of its own: calling a module with other parameters swaps them in it."""
        return Student(deepcopy(self.module), self.layout, self.dtype)

    def outputs(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """The network's outputs (B, K) with these parameters."""
        if self.dtype is not None:
            parameters = {name: value.to(self.dtype) for name, value in parameters.items()}
        logits: Tensor = functional_call(self.module, parameters, (x.to(self.dtype or x.dtype),))
        return logits.to(x.dtype)

    def logits(self, theta: Tensor, x: Tensor) -> Tensor:
        """The network's outputs (B, K)."""
        return self.outputs(self.layout.unflatten(theta), x)

    def loss(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The weighted cross-entropy, a scalar that can be differentiated twice.

        Attention is computed by torch's plain kernel, since its fused ones have no second derivative.
        """
        with sdpa_kernel(SDPBackend.MATH):
            return cross_entropy(self.logits(theta, x), p, w)

    def gradient(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The gradient g (P,) of the loss in theta, without a graph."""
        return self.gradient_and_logits(theta, x, p, w)[0]

    def gradient_and_logits(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient g (P,) and the outputs (B, K) that it was computed from."""
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            logits = self.logits(theta, x)
            (g,) = torch.autograd.grad(cross_entropy(logits, p, w), theta)
        return g, logits.detach()

    def derivatives(
        self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor, *, labels: bool = False
    ) -> Derivatives:
        """The step h: <g, lam> with its derivatives in theta (P,), x (B, C, H, W) and, with `labels`, p (B, K).

        One reverse sweep over another: the second differentiates the graph that the first one leaves.
        """
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            x = x.detach().requires_grad_()
            p = p.detach().requires_grad_(labels)
            (g,) = torch.autograd.grad(self.loss(theta, x, p, w), theta, create_graph=True)
            inner = torch.dot(g, lam)
            wanted = (theta, x, p) if labels else (theta, x)
            by_argument = torch.autograd.grad(inner, wanted)
        return Derivatives(inner.detach(), by_argument[0], by_argument[1], by_argument[2] if labels else None)
