"""Distribution matching (DM, WACV 2023): images whose features have the means of real images' features.

With phi the features of a fresh random network (the inputs of its last linear layer), and for each class c

    m_c = mean phi(real images of c)        s_c = mean phi(the set's images of c)        L = sum_c |s_c - m_c|^2

an image of class c has dL/dphi = 2 (s_c - m_c) / S, S being the set's images of its class, which is pulled back to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from attcli.objectives import NOTHING, Memory, classwise, tapped
from attcli.options import Effort

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.objectives import Inputs, Slope
    from attcli.settings import Distill


LOSS = "distance of the features"

READS: tuple[str, ...] = ()


class Options(classwise.OfClasses):
    """The options of distribution matching."""


class Drawn(NamedTuple):
    """What chance decides: the network (P,), and the batches of all classes."""

    theta: Tensor
    batches: classwise.Drawn


class DistributionMatching:
    """The objective. All its draws follow from (seed, iteration, span)."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs, self._seed = inputs, inputs.seed
        self._classes = classwise.Classes(inputs, inputs.settings.real_per_class)
        self.step_functions = inputs.student
        self._taps = tapped.Tapped(inputs, self._classes)
        classwise.use_threads(inputs, self._classes.real_batch)

    def ahead(self, iteration: int, span: int) -> Drawn:
        """Draw a network, and the batches of all classes."""
        from attcli import runtime
        from attcli.matching.parameters import vector

        generator = runtime.stream(self._seed, "distribution", iteration, span)
        build = self._inputs.architecture.build
        network = runtime.seeded(build, self._seed, "distribution-network", iteration, span)
        return Drawn(vector(network), self._classes.draw(generator))

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: Drawn, memory: Memory = NOTHING) -> Slope:
        """The squared distance of the classes' mean features, and its derivative in the images."""
        import torch

        from attcli.objectives import Slope

        theta = drawn.theta.to(images)
        batches = self._classes.of_set(drawn.batches, images, labels)
        means = self._taps.of_real(theta, drawn.batches, lambda c, taps: taps[0].mean(dim=0))
        x = torch.cat([batches[c].x for c in range(len(batches))])
        (own,) = self._taps.of_set(theta, x)
        apart = own - means
        self._taps.pull_back(theta, x, batches, [2 * apart])
        facts = classwise.facts(step=1)
        return Slope(apart.square().sum(), batches.gradients()[0], None, torch.zeros_like(lr), labels, facts)


def reads_experts(distill: Distill) -> bool:
    """Never."""
    return False


def check(distill: Distill) -> None:
    """UserError where labels are to be learned."""
    classwise.check_labels(distill)


def effort(distill: Distill, classes: int, per_class: int) -> Effort:
    """A forward sweep over real images; two, and one backward that takes two, over the set's."""
    return classwise.effort(distill, classwise.FORWARD * classes * (distill.real_per_class + 4 * per_class))


def make(inputs: Inputs) -> DistributionMatching:
    """The objective for these inputs."""
    return DistributionMatching(inputs)
