"""g and h of every network against autograd through the module itself, in float64; and one step of scoring."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attcli import registry
from attcli.matching.parameters import vector
from attcli.matching.statistics import calibrated
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring.protocol import Protocol
from attcli.scoring.testing import accuracy
from attcli.scoring.training import fresh, train
from tests.matching.cases import relative

CLASSES, BATCH = 4, 2
SMALL = [
    (name, resolution, options)
    for resolution in (8, 28, 32, 64, 128)
    for name, options in {"convnet": {"width": 16}, "mlp": {}, "lenet": {}}.items()
]
VARIANTS = [
    ("convnet", 8, {"width": 8, "norm": norm, "pooling": pooling, "activation": activation})
    for norm, pooling, activation in (
        ("batch", "avg", "relu"),
        ("layer", "max", "leakyrelu"),
        ("group", "none", "sigmoid"),
        ("none", "max", "relu"),
    )
]
LARGE = [
    ("convnetbn", 32, {}),
    ("vit", 8, {}),
    ("vit", 28, {}),
    ("vit", 64, {}),
    ("alexnet", 28, {}),
    ("resnet6imagenet", 64, {}),
    *[pytest.param(name, 8, {}, marks=pytest.mark.slow) for name in ("resnet18bn", "resnet18ap", "vgg11bn")],
]


@pytest.fixture
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def inner(module: nn.Module, x: Tensor, p: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """<g, lam> with its graph, and g; by the module's own parameters."""
    g = torch.autograd.grad(F.cross_entropy(module(x), p), list(module.parameters()), create_graph=True)
    flat = torch.cat([part.reshape(-1) for part in g])
    return flat.dot(lam), flat


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize(("name", "resolution", "options"), [*SMALL, *VARIANTS, *LARGE])
def test_g_and_h_are_those_of_autograd(name: str, resolution: int, options: dict) -> None:
    torch.manual_seed(0)
    module = Architecture(name, 3, CLASSES, resolution, options).build()
    student = Student.of(Architecture(name, 3, CLASSES, resolution, options).build())
    x, p = torch.randn(BATCH, 3, resolution, resolution), torch.randn(BATCH, CLASSES).softmax(dim=1)
    theta, w = vector(module), torch.full((BATCH,), 1 / BATCH)
    lam = torch.randn_like(theta)
    ours = student.derivatives(theta, x, p, w, lam)
    value, g = inner(module, x.requires_grad_(), p, lam)
    by_theta = torch.autograd.grad(value, [*module.parameters(), x], materialize_grads=True)
    assert relative(student.gradient(theta, x.detach(), p, w), g) < 1e-10
    assert abs(float(ours.inner - value.detach())) < 1e-9 * float(value.detach().abs() + 1)
    assert relative(ours.theta, torch.cat([part.reshape(-1) for part in by_theta[:-1]])) < 1e-9
    assert relative(ours.x, by_theta[-1]) < 1e-9


@pytest.mark.parametrize("name", registry.names("network"))
def test_one_step_of_scoring_at_32x32(name: str) -> None:
    architecture, key = Architecture(name, 3, CLASSES, 32, {}), (0, "step", 0)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4) % CLASSES
    student, before = Student.of(architecture.build()), fresh(architecture, key)
    one_pass = Protocol("exact", 1, 4, 0.9, 5e-4, "color_crop_cutout_flip_scale_rotate")
    theta = train(student, before.clone(), images, labels, CLASSES, 0.01, one_pass, key)
    assert theta.isfinite().all()
    assert not torch.equal(theta, before)
    assert 0 <= accuracy(calibrated(student, theta, images), theta, images, labels) <= 100
