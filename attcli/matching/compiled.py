"""The step functions compiled: each one fixed-shape program without a break, fused by torch's compiler.

h is reverse over forward: the derivative of the loss along lambda (a Jacobian-vector product, which is <g, lambda>) is
differentiated once. That needs a third fewer sweeps over the network than differentiating g backwards, which is the
other form, `reverse`: for networks with layers whose forward-mode rule torch gets wrong when it is differentiated again
(its LayerNorm, BatchNorm and InstanceNorm, in the versions known so far). `forward_mode_is_exact` tells which they are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from attcli.matching.step_functions import Derivatives
from attcli.matching.student import Student, cross_entropy

EXACT = 1e-7
"""Relative difference in float64 up to which two forms of h are the same."""

PROGRAMS = 200
"""Programs of each step function that a process may compile: one for each network and shape that it meets."""


class Compiled:
    """Steps of a student as compiled programs; the first call of each, and of each new shape, compiles it.

    With `channels_last`, weights and images are laid out so for the convolutions.
    """

    def __init__(self, student: Student, *, channels_last: bool, reverse: bool = False) -> None:
        self._student = student
        self._channels_last = channels_last
        self._gradient = _compile(self._gradient_and_logits)
        form = self._over_reverse if reverse else self._over_forward
        self._derivatives = {labels: _compile(form(labels)) for labels in (False, True)}

    def _laid_out(self, value: Tensor) -> Tensor:
        mapped = self._channels_last and value.dim() == 4
        return value.contiguous(memory_format=torch.channels_last) if mapped else value

    def _parameters(self, theta: Tensor) -> dict[str, Tensor]:
        return {name: self._laid_out(value) for name, value in self._student.layout.unflatten(theta).items()}

    def _gradient_and_logits(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        def loss(theta: Tensor) -> tuple[Tensor, Tensor]:
            logits = self._student.outputs(self._parameters(theta), self._laid_out(x))
            return cross_entropy(logits, p, w), logits

        g, logits = grad(loss, has_aux=True)(theta)
        return g, logits

    def _loss(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # as in `Student.loss`
            logits = self._student.outputs(self._parameters(theta), self._laid_out(x))
        # The cross-entropy in a single product with log p. The sums over classes in between would have a derivative of
        # zero along lambda, for which torch before 2.15 allocates no memory and compiles a program that reads it.
        return -(w.unsqueeze(1) * p * logits.log_softmax(dim=1)).sum()

    def _over_reverse(self, labels: bool) -> Any:
        arguments = (0, 1, 2) if labels else (0, 1)

        def derivatives(
            theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor
        ) -> tuple[tuple[Tensor, ...], Tensor]:
            def inner(theta: Tensor, x: Tensor, p: Tensor) -> Tensor:
                return torch.dot(grad(self._loss)(theta, x, p, w), lam)

            by_argument, value = grad_and_value(inner, arguments)(theta, x, p)
            return tuple(part.contiguous() for part in by_argument), value

        return derivatives

    def _over_forward(self, labels: bool) -> Any:
        arguments = (0, 1, 2) if labels else (0, 1)

        def derivatives(
            theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor
        ) -> tuple[tuple[Tensor, ...], Tensor]:
            def inner(theta: Tensor, x: Tensor, p: Tensor) -> Tensor:
                def loss(theta: Tensor) -> Tensor:
                    return self._loss(theta, x, p, w)

                # Copies, which the compiler drops: forward mode refuses a point that is a view of something larger.
                along: Tensor = jvp(loss, (theta.clone(),), (lam.clone(),))[1]
                return along

            by_argument, value = grad_and_value(inner, arguments)(theta, x, p)
            return tuple(part.contiguous() for part in by_argument), value

        return derivatives

    def apart(self) -> "Compiled":
        """Itself: once compiled, the programs share nothing that a call changes."""
        return self

    def loss(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The loss, eager."""
        return self._student.loss(theta, x, p, w)

    def gradient_and_logits(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient g (P,) and the outputs (B, K)."""
        g, logits = self._gradient(theta, x, p, w)
        return g, logits

    def gradient(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The gradient g (P,)."""
        return self.gradient_and_logits(theta, x, p, w)[0]

    def derivatives(
        self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor, *, labels: bool = False
    ) -> Derivatives:
        """The inner product <g, lam> and its derivatives."""
        by_argument, inner = self._derivatives[labels](theta, x, p, w, lam)
        return Derivatives(inner, by_argument[0], by_argument[1], by_argument[2] if labels else None)

    def forward_mode_is_exact(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor) -> bool:
        """Whether both forms of h give the same at a point; computed without a compiler."""
        ours, _ = self._over_forward(True)(theta, x, p, w, lam)
        theirs, _ = self._over_reverse(True)(theta, x, p, w, lam)
        return all(agree(a, b, EXACT) for a, b in zip(ours, theirs, strict=True))


def agree(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by no more than so much of the second one's norm, and both are finite."""
    distance, size = (a - b).double().norm(), b.double().norm()
    return bool(distance <= tolerance * size + torch.finfo(torch.float64).tiny)


def _compile(function: Any) -> Any:
    # Torch counts the programs of one piece of code, over all students of the process, and gives up beyond eight.
    torch._dynamo.config.recompile_limit = PROGRAMS
    # runtime.configure told eager kernels alone whether they have to be reproducible; this tells the compiler.
    reproducible = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(reproducible)
    if reproducible and torch.cuda.is_available():
        # Else it picks among kernels by timing them, and they round differently.
        torch._inductor.config.deterministic = True
    return torch.compile(function, fullgraph=True, dynamic=False)
