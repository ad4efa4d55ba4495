"""The outer optimiser against torch's own."""

import pytest
import torch

from attcli.matching import outer
from attcli.matching.outer import Pace

PACES = {"images": Pace(0.3, 0.5), "lr": Pace(1e-3, 0.9)}


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_steps_are_torchs(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    learned = {"images": torch.randn((4, 3), generator=generator).double(), "lr": torch.tensor(0.1).double()}
    ours = outer.OPTIMISERS[name]()
    leaves = {key: x.clone().requires_grad_() for key, x in learned.items()}
    theirs = [
        torch.optim.SGD([leaves[key]], lr=pace.rate, momentum=pace.momentum)
        if name == "sgd"
        else torch.optim.Adam([leaves[key]], lr=pace.rate, betas=(pace.momentum, 0.999))
        for key, pace in PACES.items()
    ]
    moments = {key: ours.begin(x) for key, x in learned.items()}
    for _ in range(5):
        gradients = {key: torch.randn(x.shape, generator=generator).double() for key, x in learned.items()}
        before = {key: x.clone() for key, x in learned.items()}
        moved, moments = outer.step(ours, learned, gradients, moments, PACES)
        assert all(torch.equal(learned[key], before[key]) for key in learned)  # the arguments stay as they are
        learned = moved
        for key, leaf in leaves.items():
            leaf.grad = gradients[key]
        for optimiser in theirs:
            optimiser.step()
        assert all(torch.allclose(learned[key], leaves[key], rtol=1e-12, atol=0) for key in learned)


def test_the_average_is_exponential() -> None:
    assert float(outer.averaged(torch.tensor(2.0), torch.tensor(4.0), 0.75)) == 2.5
