"""FTD's experts: SGD along GSAM's direction, so that trajectories stay flat (CVPR 2023; GSAM, ICLR 2022).

With g the gradient at theta and g' that at theta + e, both of the same augmented batch and with global norms:

    e  = rho theta^2 g / || |theta| g ||     (adaptive), or rho g / ||g||
    g' <- g' - alpha (g - cos(g, g') ||g|| g' / ||g'||)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeFloat, PositiveFloat

from attcli.options import Section

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.matching.step_functions import StepFunctions
    from attcli.trainers.training import Descent


class Options(Section):
    """FTD's options, which are settings of `buffer`."""

    rho: PositiveFloat = Field(
        0.01, description="ftd: how far each step climbs before it takes its gradient (rho of GSAM)"
    )
    alpha: NonNegativeFloat = Field(
        0.3, description="ftd: weight of GSAM's surrogate gap, by which flat places are preferred (its alpha)"
    )
    adaptive: bool = Field(True, description="ftd: larger parameters climb farther")


GRADIENTS = 2
"""Gradients that a step takes: at theta, and at the raised point."""

TINY = 1e-12


def ascent(theta: Tensor, g: Tensor, rho: float, adaptive: bool) -> Tensor:
    """The step e (P,) to where the loss is about highest within the radius rho."""
    scaled = theta.abs() * g if adaptive else g
    step: Tensor = rho * (theta.abs() * scaled if adaptive else scaled) / (scaled.norm() + TINY)
    return step


def decomposed(g: Tensor, raised: Tensor, alpha: float) -> Tensor:
    """The gradient `raised` (P,) at the raised point, less alpha times the part of g that is orthogonal to it."""
    length, raised_length = g.norm(), raised.norm()
    cosine = g.dot(raised) / (raised_length * length + TINY)
    orthogonal: Tensor = g - cosine * length * raised / (raised_length + TINY)
    return raised - alpha * orthogonal


def descent(rho: float, alpha: float, adaptive: bool) -> Descent:
    """GSAM's direction."""

    def along(step_functions: StepFunctions, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        g, logits = (part.clone() for part in step_functions.gradient_and_logits(theta, x, p, w))
        raised = step_functions.gradient(theta + ascent(theta, g, rho, adaptive), x, p, w)
        return decomposed(g, raised, alpha), logits

    return along
