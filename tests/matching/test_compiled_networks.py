"""No network's compiled derivatives may be wrong unnoticed: every network, and layers whose torch rules are wrong."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch._inductor.lowering  # what some decompositions look up
from torch import Tensor, nn
from torch._inductor.decomposition import select_decomp_table
from torch.fx.experimental.proxy_tensor import make_fx

from attcli import execution, registry
from attcli.matching.compiled import Compiled, agree
from attcli.matching.student import Student, cross_entropy
from attcli.networks import Architecture, norms
from tests.stages.observed import logged

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("FutureWarning", "DeprecationWarning", "UserWarning")
]

CLASSES, SIDE, BATCH = 4, 8, 4


@pytest.fixture(autouse=True)
def _without_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs are traced as for the compiler, and run eagerly: the derivatives are those that it would compile."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch._dynamo.reset()


class FusedAttention(nn.Module):
    """Attention among the places of a map by torch's own function, whose fused kernels have no second derivative."""

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(2).transpose(1, 2).unsqueeze(1)
        mixed = nn.functional.scaled_dot_product_attention(places, places, places)
        return mixed.squeeze(1).transpose(1, 2).reshape(x.shape)


def with_norm(norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A network of two convolutions with a layer between them."""
    return lambda: nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        norm(),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * SIDE * SIDE // 4, CLASSES),
    )


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "group": lambda: nn.GroupNorm(2, 6),
    "our instance": lambda: norms.InstanceNorm(6),
    "our layer": lambda: norms.LayerNorm([6, SIDE, SIDE]),
    "our batch": lambda: norms.BatchNorm(6),
    "attention": FusedAttention,
    "torch layer": lambda: nn.LayerNorm([6, SIDE, SIDE]),
    "torch batch": lambda: nn.BatchNorm2d(6),
    "torch batch without running statistics": lambda: nn.BatchNorm2d(6, track_running_stats=False),
    "torch instance": lambda: nn.InstanceNorm2d(6, affine=True),
}
WRONG_IN_FORWARD_MODE = [name for name in LAYERS if name.startswith("torch")]


def point(build: Callable[[], nn.Module]) -> execution.Point:
    work = execution.Work((1, SIDE, SIDE), CLASSES, BATCH, BATCH, dtype=torch.float64)
    return execution.Point.near(build, work, BATCH, torch.device("cpu"))


def finite_difference(student: Student, at: execution.Point) -> float:
    """The relative error of <dh/dx, v> along a random direction, by values of g alone.

    The better of two differences: a large one may cross the kink of some ReLU, a small one is rounded more.
    """
    direction = torch.randn(at.x.shape, generator=torch.Generator().manual_seed(3))
    found = float((student.derivatives(*vars(at).values()).x * direction).sum())

    def inner(shift: float) -> Tensor:
        return torch.dot(student.gradient(at.theta, at.x + shift * direction, at.p, at.w), at.lam)

    wanted = [float(inner(shift) - inner(-shift)) / (2 * shift) for shift in (1e-6, 1e-8)]
    return min(abs(value - found) / abs(value) for value in wanted)


def without_memory(student: Student, at: execution.Point) -> list[str]:
    """The tensors of zeros in the graph of h as reverse over forward for which torch allocates no memory.

    Torch before 2.15 compiles programs that read them: these crash, on a GPU so that it gives nothing more.
    """
    form = Compiled(student, channels_last=True)._over_forward(True)

    def h(*inputs: Tensor) -> tuple[Tensor, ...]:
        by_argument, inner = form(*inputs)
        return (*by_argument, inner)

    with patch("torch.compiler.is_compiling", lambda: True):
        decompositions = select_decomp_table()
        graph = make_fx(h, decomposition_table=decompositions, tracing_mode="fake")(*vars(at).values()).graph
    graph.eliminate_dead_code()
    zeros = [node for node in graph.nodes if node.target == torch.ops.aten._efficientzerotensor.default]
    return [str(user) for node in zeros for user in node.users if "device_put" not in str(user)]


def test_a_tensor_without_memory_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_two_products(self: Compiled, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        return cross_entropy(self._student.outputs(self._parameters(theta), x), p, w)

    student, at = Student.of(with_norm(LAYERS["none"])()), point(with_norm(LAYERS["none"]))
    assert without_memory(student, at) == []
    monkeypatch.setattr(Compiled, "_loss", in_two_products)
    assert without_memory(student, at) != []


def assert_right(build: Callable[[], nn.Module]) -> None:
    """The step functions that an execution compiles are right to 1e-8, whichever form they take."""
    student, at = Student.of(build()), point(build)
    assert finite_difference(student, at) < 1e-5
    work = execution.Work((1, SIDE, SIDE), CLASSES, BATCH, BATCH, derivatives=True, labels=True, dtype=torch.float64)
    with logged() as lines:
        made = execution.step_functions(student, build, work, torch.device("cpu"), "compiled")
    assert isinstance(made.step_functions, Compiled)
    assert lines == []
    arguments = (at.theta, at.x, at.p, at.w)
    assert agree(made.gradient(*arguments), student.gradient(*arguments), 1e-8)
    ours, theirs = (step_functions.derivatives(*arguments, at.lam, labels=True) for step_functions in (made, student))
    assert all(agree(a, b, 1e-8) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layers_compiled_derivatives_are_right(name: str) -> None:
    assert_right(with_norm(LAYERS[name]))


ALIKE = ("resnet18bn", "resnet18imagenet")
"""Networks of no other layers than others have, which take long."""


DEEP = ("vgg11", "vgg11bn", "resnet18", "resnet18ap", "resnet6imagenet", "vit")


@pytest.mark.parametrize(
    "arch",
    [
        pytest.param(arch, marks=[pytest.mark.slow] if arch in DEEP else [])
        for arch in registry.names("network")
        if arch not in ALIKE
    ],
)
def test_every_networks_compiled_derivatives_are_right(arch: str) -> None:
    options = {"width": 4, "depth": 2} if arch == "convnet" else {}
    assert_right(Architecture(arch, 1, CLASSES, SIDE, options).build)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in WRONG_IN_FORWARD_MODE])
def test_no_layers_program_reads_a_tensor_without_memory(name: str) -> None:
    build = with_norm(LAYERS[name])
    assert without_memory(Student.of(build()), point(build)) == []


@pytest.mark.slow
@pytest.mark.parametrize("arch", [arch for arch in registry.names("network") if arch not in ALIKE])
def test_no_networks_program_reads_a_tensor_without_memory(arch: str) -> None:
    options = {"width": 4, "depth": 2} if arch == "convnet" else {}
    build = Architecture(arch, 1, CLASSES, SIDE, options).build
    student, at = Student.of(build()), point(build)
    assert not Compiled(student, channels_last=False).forward_mode_is_exact(*vars(at).values()) or (
        without_memory(student, at) == []
    )


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_torch_gets_wrong_in_forward_mode_are_told(name: str) -> None:
    build = with_norm(LAYERS[name])
    student = Student.of(build())
    exact = Compiled(student, channels_last=False).forward_mode_is_exact(*vars(point(build)).values())
    assert exact == (name not in WRONG_IN_FORWARD_MODE)


NEW_NETWORK = """
from torch import nn
from attcli.networks import norms

def build(channels, classes, resolution):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        {norm},
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * resolution**2, classes),
    )
"""


@pytest.mark.parametrize(
    "norm",
    ["norms.LayerNorm([8, 8, 8])", "norms.BatchNorm(8)", "nn.LayerNorm([8, 8, 8])", "nn.BatchNorm2d(8)"],
)
def test_a_new_network_in_one_file(norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from attcli import networks

    (tmp_path / "fresh.py").write_text(NEW_NETWORK.format(norm=norm))
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "module", lambda kind, name: import_module(f"attcli.networks.{name}"))
    assert_right(Architecture("fresh", 1, CLASSES, SIDE, {}).build)
    monkeypatch.delitem(__import__("sys").modules, "attcli.networks.fresh")


def test_steps_that_compute_something_else_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(function: Callable[..., object]) -> Callable[..., object]:
        def call(*inputs: Tensor) -> object:
            first, *others = function(*inputs)
            return (first * 1.05 if isinstance(first, Tensor) else tuple(x * 1.05 for x in first), *others)

        return call

    monkeypatch.setattr("attcli.matching.compiled._compile", wrong)
    build = with_norm(LAYERS["none"])
    student = Student.of(build())
    for dtype in (torch.float64, torch.float32):
        work = execution.Work((1, SIDE, SIDE), CLASSES, BATCH, BATCH, derivatives=True, dtype=dtype)
        with logged() as lines:
            assert (
                execution.step_functions(student, build, work, torch.device("cpu"), "compiled").step_functions
                is student
            )
        assert "execution compiled failed (its results are not those of eager steps)" in lines[0]


class WithoutForwardMode(torch.autograd.Function):
    """A function of a package of one's own: it has a derivative, and that one too, but none in forward mode."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sin()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, by_output: Tensor) -> Tensor:
        return by_output * ctx.saved_tensors[0].cos()


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        applied: Tensor = WithoutForwardMode.apply(x)
        return applied


class ByItsValues(nn.Module):
    """A layer whose course depends on the numbers that it sees, which no compiler and no meta tensor can follow."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x * 3


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(rows, rows, rows).transpose(1, 2).view_as(x)


def small(layer: type[nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), layer(), nn.Flatten(), nn.Linear(4 * SIDE * SIDE, CLASSES)
    )


@pytest.mark.parametrize("layer", [Sine, ByItsValues, Attention])
@pytest.mark.parametrize("asked", ["auto", "eager", "compiled"])
def test_unusual_layers_get_right_steps_whatever_is_asked(layer: type[nn.Module], asked: str) -> None:
    build = small(layer)
    student, at = Student.of(build()), point(build)
    work = execution.Work((1, SIDE, SIDE), CLASSES, BATCH, BATCH, derivatives=True, labels=True, dtype=torch.float64)
    with logged() as lines:
        step_functions = execution.step_functions(student, build, work, torch.device("cpu"), asked)
    if asked == "compiled" and layer is ByItsValues:
        assert step_functions.step_functions is student
        assert "going on without it" in lines[0]
    assert abs(finite_difference(student, at)) < 1e-5
    arguments = (at.theta, at.x, at.p, at.w)
    ours = step_functions.derivatives(*arguments, at.lam, labels=True)
    theirs = student.derivatives(*arguments, at.lam, labels=True)
    assert all(agree(a, b, 1e-8) for a, b in zip(ours, theirs, strict=True))


def test_an_inner_product_that_cancels_does_not_refuse_right_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attcli.matching.compiled._compile", lambda function: function)
    build = with_norm(LAYERS["none"])
    student = Student.of(build())
    work = execution.Work((1, SIDE, SIDE), CLASSES, BATCH, BATCH, derivatives=True)
    near = execution.Point.near(build, work, BATCH, torch.device("cpu"))
    g = student.gradient(near.theta, near.x, near.p, near.w)
    across = near.lam - torch.dot(g.double(), near.lam.double()).float() / g.norm() ** 2 * g
    monkeypatch.setattr(execution.Point, "near", lambda *_: replace(near, lam=across))
    with logged() as lines:
        step_functions = execution.step_functions(student, build, work, torch.device("cpu"), "compiled")
    assert isinstance(step_functions.step_functions, Compiled)
    assert lines == []


def test_students_are_pure() -> None:
    build = with_norm(lambda: nn.BatchNorm2d(6))
    student, at = Student.of(build()), point(build)
    first = student.logits(at.theta, at.x)
    assert torch.equal(first, student.logits(at.theta, at.x))  # no dropout
    assert not list(student.module.buffers())  # no running statistics
