"""Networks of timm, which is optional: told where it is missing, and distilled and scored where it is there."""

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from attcli import execution, registry
from attcli.errors import UserError
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.settings import resolve
from attcli.stages import identity, pipeline
from attcli.stages.run import Run
from tests.matching.cases import relative

with_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
foreign_warnings = [
    pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("FutureWarning", "DeprecationWarning", "UserWarning")
]
pytestmark = foreign_warnings
RESNET, VIT = "timm:test_resnet", "timm:test_vit"


def test_where_timm_is_missing_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    registry.module.cache_clear()
    with pytest.raises(
        UserError,
        match=r"networks called timm:NAME need the package timm \(.*\); install it: pip install 'attcli\[timm\]'",
    ):
        resolve({"network.arch": "timm:resnet18"}, environ={}, ignore_params=True)
    with pytest.raises(UserError, match="need the package timm"):
        resolve({"evaluate.archs": "convnet,timm:resnet18"}, environ={}, ignore_params=True)


@with_timm
def test_an_unknown_model_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown model of timm 'resnet19'; did you mean 'resnet1"):
        registry.check_network("timm:resnet19", 32, {})


@with_timm
def test_images_that_a_model_does_not_take_are_refused() -> None:
    with pytest.raises(UserError) as error:
        registry.check_network("timm:vit_tiny_patch16_224", 8, {})
    message = "network timm:vit_tiny_patch16_224 does not take images of 8x8; the nearest size that it takes is 16x16"
    assert str(error.value) == message


@with_timm
def test_the_identity_is_the_name_alone() -> None:
    settings = resolve({"network.arch": RESNET, "prepare.dataset": "digits"}, environ={}, ignore_params=True).settings
    assert identity.network(settings) == {"arch": RESNET}


@with_timm
def test_a_model_that_drops_by_a_function_does_not_drop() -> None:
    """GhostNet's head calls dropout in its forward, where no layer shows it."""
    torch.manual_seed(0)
    build = Architecture("timm:ghostnet_050", 3, 4, 32, {}).build
    student, theta = Student.of(build()), vector(build())
    x, p, w = torch.randn(3, 3, 32, 32), torch.full((3, 4), 0.25), torch.full((3,), 1 / 3)
    assert torch.equal(student.gradient(theta, x, p, w), student.gradient(theta, x, p, w))


@with_timm
@pytest.mark.parametrize("name", [RESNET, VIT])
def test_derivatives_against_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    build = Architecture(name, 1, 4, 32, {}).build
    student, theta = Student.of(build().double()), vector(build().double())
    x, lam = torch.randn(3, 1, 32, 32, dtype=torch.float64), torch.randn_like(theta)
    p, w = torch.full((3, 4), 0.25, dtype=torch.float64), torch.full((3,), 1 / 3, dtype=torch.float64)
    assert torch.equal(student.gradient(theta, x, p, w), student.gradient(theta, x, p, w))  # nothing is drawn
    found = student.derivatives(theta, x, p, w, lam)
    along = torch.randn_like(x)

    def inner(shift: float) -> torch.Tensor:
        return student.gradient(theta, x + shift * along, p, w).dot(lam)

    differences = [(inner(shift) - inner(-shift)) / (2 * shift) for shift in (1e-6, 1e-8)]
    assert min(relative((found.x * along).sum(), value) for value in differences) < 1e-5


@pytest.fixture
def _digits_of_32_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded digits, each pixel sixteen times, so that there are four of the ViT's patches of 16x16."""
    source = registry.source("digits")
    load = source.load

    def enlarged(*asked: object) -> object:
        raw = load(*asked)
        parts = (
            part._replace(images=part.images.repeat(4, axis=2).repeat(4, axis=3)) for part in (raw.train, raw.test)
        )
        return raw._replace(**dict(zip(("train", "test"), parts, strict=True)))

    monkeypatch.setattr(source, "load", enlarged)
    monkeypatch.setattr(source, "INFO", [replace(info, resolution=32) for info in source.INFO])


@with_timm
@pytest.mark.usefixtures("_digits_of_32_pixels")
@pytest.mark.parametrize("name", [RESNET, pytest.param(VIT, marks=pytest.mark.slow)])
def test_a_model_is_distilled_and_scored(name: str, make_run: Callable[..., Run]) -> None:
    run = make_run(
        network__arch=name,
        evaluate__archs=f"{name},mlp",
        prepare__limit_per_class=20,
        prepare__validation=0,
        buffer__experts=1,
        buffer__batch=64,
        distill__iterations=2,
        distill__syn_steps=2,
        distill__expert_epochs=1,
        distill__max_start_epoch=1,
        evaluate__epochs=2,
        evaluate__repeats=1,
    )
    report = pipeline.evaluate(run)
    assert report["set"]["network"] == {"arch": name}
    for kind in ("synthetic", "ema", "random"):
        assert 0 <= report["scores"][name][kind]["mean"] <= 100


@with_timm
def test_a_dry_run_knows_its_cost() -> None:
    build = Architecture(RESNET, 3, 10, 32, {}).build
    assert execution.flops(build, execution.Work((3, 32, 32), 10, 10, 10)) > 1e8
