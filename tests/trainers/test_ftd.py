"""FTD's direction against its formulas, written out parameter by parameter as GSAM's authors state them."""

import pytest
import torch
from torch import Tensor

from attcli import registry
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.runtime import stream
from attcli.trainers import ftd, load
from attcli.trainers.training import Optimiser, along_the_gradient, train_epoch

IMAGES = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


def written_out(module, x: Tensor, y: Tensor, rho: float, alpha: float, adaptive: bool) -> list[Tensor]:
    """One GSAM direction by torch.autograd on the module's own parameters."""
    parameters = list(module.parameters())
    g = torch.autograd.grad(torch.nn.functional.cross_entropy(module(x), y), parameters)
    weights = [p.detach().abs() if adaptive else torch.ones_like(p) for p in parameters]
    length = sum((w * part).square().sum() for w, part in zip(weights, g, strict=True)).sqrt()
    before = [p.detach().clone() for p in parameters]
    for p, part, w in zip(parameters, g, weights, strict=True):
        p.data += rho * w.square() * part / (length + 1e-12)
    raised = torch.autograd.grad(torch.nn.functional.cross_entropy(module(x), y), parameters)
    for p, kept in zip(parameters, before, strict=True):
        p.data = kept

    def norm(parts) -> Tensor:
        return sum(part.square().sum() for part in parts).sqrt()

    dot = sum((a * b).sum() for a, b in zip(g, raised, strict=True))
    cosine = dot / (norm(g) * norm(raised) + 1e-12)
    return [
        up - alpha * (low - cosine * norm(g) * up / (norm(raised) + 1e-12)) for low, up in zip(g, raised, strict=True)
    ]


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_direction_is_the_formulas(alpha: float, adaptive: bool) -> None:
    torch.manual_seed(0)
    module = Architecture("convnet", 1, 3, 8, {"width": 4, "depth": 2}).build().double()
    x, p, w = (
        IMAGES.double(),
        torch.nn.functional.one_hot(LABELS, 3).double(),
        torch.full((12,), 1 / 12, dtype=torch.float64),
    )
    direction, logits = ftd.descent(0.5, alpha, adaptive)(Student.of(module), vector(module), x, p, w)
    wanted = torch.cat([part.reshape(-1) for part in written_out(module, x, LABELS, 0.5, alpha, adaptive)])
    assert torch.allclose(direction, wanted, rtol=1e-10, atol=1e-12)
    assert torch.allclose(logits, module(x))
    plain = Student.of(module).gradient(vector(module), x, p, w)
    assert not torch.allclose(direction, plain, rtol=1e-3)


def test_the_ascent_has_the_radius() -> None:
    theta, g = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([3.0, 1.0, -1.0])
    assert ftd.ascent(theta, g, 0.1, adaptive=False).norm() == pytest.approx(0.1)
    scaled = ftd.ascent(theta, g, 0.1, adaptive=True) / theta.abs()
    assert scaled.norm() == pytest.approx(0.1)


def test_the_orthogonal_part_is_removed_with_weight_alpha() -> None:
    g, raised = torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0])
    assert torch.allclose(ftd.decomposed(g, raised, 0.5), torch.tensor([2.0, -0.5]))


def test_trainers_are_found_by_name_and_train() -> None:
    assert load("sgd") is along_the_gradient
    assert tuple(registry.options("trainer", "ftd")) == ("rho", "alpha", "adaptive")
    module = Architecture("convnet", 1, 3, 8, {"width": 4, "depth": 2}).build()
    found = []
    for descent in (load("sgd"), load("ftd", rho=0.05, alpha=0.3, adaptive=True)):
        theta, optimiser = vector(module), Optimiser(0.1, 0.0, 0.0)
        for _ in range(20):
            options_ = {"classes": 3, "batch": 6, "strategy": "none", "generator": stream(0, "a")}
            loss = train_epoch(Student.of(module), theta, optimiser, IMAGES, LABELS, descent=descent, **options_)[0]
        assert loss < 1.0
        found.append(theta)
    assert not torch.equal(*found)
