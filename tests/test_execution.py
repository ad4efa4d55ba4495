"""How an execution is chosen, and what happens where it can't be had."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from loguru import logger
from torch import Tensor, nn

from attcli import execution, runtime
from attcli.errors import UserError
from attcli.execution import Work
from attcli.matching.compiled import Compiled
from attcli.matching.microbatch import MicroBatched
from attcli.matching.student import Student
from attcli.networks import Architecture
from tests.stages.observed import logged

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CONVNET = Architecture("convnet", 3, 10, 32, {})
WORK = Work(image=(3, 32, 32), classes=10, batch=10, images=1000)


def test_flops_are_those_of_the_convolutions() -> None:
    layers = 2 * 27 * 128 * 1024 + 2 * 1152 * 128 * 256 + 2 * 1152 * 128 * 64 + 2 * 2048 * 10
    assert execution.flops(CONVNET.build, WORK) == layers * 1000 * 3
    assert execution.flops(CONVNET.build, Work((3, 32, 32), 10, 10, 1000, derivatives=True)) == layers * 1000 * 12


@pytest.mark.parametrize(
    ("asked", "device", "amount", "weights", "chosen"),
    [
        ("auto", CPU, 1e12, 300_000, "eager"),  # the digits' distillation
        ("auto", CPU, 7.6e13, 320_010, "compiled"),  # 25 networks of 1,000 passes over ten CIFAR-10 images
        ("auto", CPU, 1e15, 300_000, "compiled"),
        ("auto", CPU, 1e15, 9_000_000, "eager"),
        ("auto", CUDA, 1e12, 300_000, "graph"),
        ("auto", CUDA, 5.8e15, 320_010, "compiled"),  # ATT's 6,000 iterations of CIFAR-10 with ten images
        ("auto", CUDA, 9e15, 320_010, "compiled"),  # its experts
        ("auto", CUDA, 1e16, 9_000_000, "compiled"),
        ("compiled", CUDA, 1.0, 300_000, "compiled"),
        ("eager", CUDA, 1e16, 300_000, "eager"),
        ("compiled", CPU, 1.0, 9_000_000, "compiled"),
        ("graph", CUDA, 1.0, 300_000, "graph"),
    ],
)
def test_choice(asked: str, device: torch.device, amount: float, weights: int, chosen: str) -> None:
    assert execution.choose(asked, device, amount, weights) == chosen


def test_what_steps_are_made_of_is_told() -> None:
    student = Student.of(CONVNET.build())
    assert execution.told(student) == "Student"
    halving = execution.step_functions(student, CONVNET.build, Work((3, 32, 32), 10, 4, 8), CPU, "eager", 2)
    assert execution.told(halving) == "MicroBatched of Student"


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(UserError, match="needs a GPU; use auto"):
        execution.choose("graph", CPU, 1.0, 1)


def test_batches_are_cut_on_a_cpu_and_whole_on_a_gpu() -> None:
    student = Student.of(CONVNET.build())
    big = Work((3, 32, 32), 10, 500, 1000)
    assert execution.slices(student, None, CPU, big) == 32
    assert execution.slices(student, None, CUDA, big) == 500
    assert execution.slices(student, 50, CUDA, big) == 50
    assert execution.slices(student, 50, CPU, WORK) == 10


def test_a_network_with_batch_statistics_takes_whole_batches_only() -> None:
    student = Student.of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3600, 10)))
    big = Work((3, 32, 32), 10, 500, 1000)
    assert execution.slices(student, None, CPU, big) == 500
    with pytest.raises(UserError, match=r"normalises over the batch.*leave micro_batch out"):
        execution.slices(student, 50, CPU, big)
    assert execution.slices(student, None, CPU, Work((3, 32, 32), 10, 500, 1000, short=100)) == 500


def test_a_failing_compiler_gives_way_to_eager_steps_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*inputs: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler here\nlong story")

        return call

    monkeypatch.setattr("attcli.matching.compiled._compile", broken)
    student, lines = Student.of(CONVNET.build()), []
    sink = logger.add(lines.append, format="{message}")
    made = execution.step_functions(student, CONVNET.build, WORK, CPU, "compiled")
    logger.remove(sink)
    assert made.step_functions is student
    assert "execution compiled failed (no C++ compiler here); going on without it" in "".join(lines)


@pytest.mark.parametrize(("asked", "other"), [("compiled", "graph"), ("graph", "eager")])
def test_a_gpu_that_fails_ends_the_command_as_it_gives_no_further_results(
    asked: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in: after an illegal memory access all that a process asks of its GPU fails."""

    def fail(*arguments: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nlong story")

    monkeypatch.setattr(execution, "_warm_up", fail)
    monkeypatch.setattr(execution.Point, "near", lambda *arguments: None)
    student = Student.of(CONVNET.build())
    remedy = rf"{asked} made the GPU fail \(.* illegal memory access .*\); run again .*runtime.execution={other}$"
    with pytest.raises(UserError, match=remedy):
        execution.step_functions(student, CONVNET.build, WORK, CUDA, asked)


def test_a_network_that_cannot_be_captured_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for an error that tells what a capture does not allow, after which the GPU works on."""

    def fail(*arguments: object) -> None:
        error = torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")
        error.error_code = 900  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(execution, "_warm_up", fail)
    monkeypatch.setattr(execution.Point, "near", lambda *arguments: None)
    student = Student.of(CONVNET.build())
    with logged() as lines:
        made = execution.step_functions(student, CONVNET.build, WORK, CUDA, "graph", halving=False)
    assert made is student
    assert "execution graph failed" in lines[0]


def test_slices_are_what_large_batches_go_through() -> None:
    student = Student.of(CONVNET.build())
    made = execution.step_functions(student, CONVNET.build, Work((3, 32, 32), 10, 100, 1000), CPU, "eager")
    assert isinstance(made.step_functions, MicroBatched)
    assert made.step_functions.size == 25


def test_a_process_may_compile_for_more_networks_than_torch_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    for size in range(4, 16):
        student = Student.of(nn.Sequential(nn.Flatten(), nn.Linear(size * size, 10)))
        x, p, w = torch.randn(2, 1, size, size), torch.full((2, 10), 0.1), torch.full((2,), 0.5)
        theta = torch.randn(student.layout.size)
        assert torch.allclose(
            Compiled(student, channels_last=True).gradient(theta, x, p, w), student.gradient(theta, x, p, w)
        )


DIGITS = Architecture("convnet", 1, 10, 8, {"width": 64, "depth": 2})


def test_small_steps_get_one_thread_and_large_ones_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cores", lambda: 7)
    small = Work((1, 8, 8), 10, 10, 600_000, derivatives=True)
    assert execution.threads("auto", DIGITS.build, small) == 1
    assert execution.threads("auto", DIGITS.build, Work((1, 8, 8), 10, 64, 10**6, short=5)) == 1
    assert execution.threads("auto", CONVNET.build, WORK) == 7
    assert execution.threads(3, DIGITS.build, small) == 3


def test_scoring_one_cifar_set_is_compiled() -> None:
    networks = 5 * (3 + 2)
    work = Work((3, 32, 32), 10, 10, 10 * 1000 * networks)
    assert execution.choose("auto", CPU, execution.flops(CONVNET.build, work), 320_010) == "compiled"
    digits = Work((1, 8, 8), 10, 10, 10 * 1000 * networks)
    assert execution.choose("auto", CPU, execution.flops(DIGITS.build, digits), 50_000) == "eager"


def test_each_precision_is_the_one_that_is_asked_for() -> None:
    build, cpu = Architecture("mlp", 1, 2, 4, {}).build, torch.device("cpu")
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    try:
        for name in ("tf32", "float32", "bfloat16", "float64"):
            assert execution.student(build, cpu, name).dtype is (torch.bfloat16 if name == "bfloat16" else None)
            execution.set_precision(name)
            assert [flag.allow_tf32 for flag in flags] == [name == "tf32"] * 2
    finally:
        for flag, allowed in zip(flags, before, strict=True):
            flag.allow_tf32 = allowed
