"""A device whose memory is too small: the slices of a step are halved until they fit, and a line says so."""

import re
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attcli import execution
from attcli.errors import UserError
from attcli.execution import Work
from attcli.matching.halving import Halving
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.stages import pipeline
from attcli.stages.run import Run
from tests.conftest import Cli, settings_in
from tests.faults.faulty import FULL, room_for
from tests.stages.observed import logged, variants

CPU = torch.device("cpu")
CONVNET = Architecture("convnet", 1, 10, 8, {"width": 8, "depth": 2})
WARNED = r"cpu has too little memory for (\d+) images at a time \(CUDA out of memory\. Tried to allocate 2\.00 GiB\); "


def halvings(lines: list[str]) -> list[tuple[int, int]]:
    """The sizes that warnings tell of: too large, and gone on with."""
    told = [re.match(WARNED + r"going on with (\d+), which changes results by rounding alone", line) for line in lines]
    return [(int(match[1]), int(match[2])) for match in told if match]


def point(size: int) -> tuple[Tensor, ...]:
    work = Work((1, 8, 8), 10, size, 1000, dtype=torch.float64)
    return tuple(vars(execution.Point.near(CONVNET.build, work, size, CPU)).values())


def made(batch: int, **options: object) -> execution.StepFunctions:
    student = Student.of(CONVNET.build().double())
    return execution.step_functions(student, CONVNET.build, Work((1, 8, 8), 10, batch, 1000), CPU, "eager", **options)


@pytest.mark.parametrize(("room", "sizes"), [(30, [25]), (12, [25, 12]), (1, [25, 12, 6, 3, 1])])
def test_slices_are_halved_until_they_fit(room: int, sizes: list[int]) -> None:
    theta, x, p, w, lam = point(100)
    whole = made(100)
    wanted = whole.gradient_and_logits(theta, x, p, w), whole.derivatives(theta, x, p, w, lam, labels=True)
    with room_for(room), logged() as lines:
        steps = made(100)
        found = steps.gradient_and_logits(theta, x, p, w), steps.derivatives(theta, x, p, w, lam, labels=True)
    assert halvings(lines) == list(pairwise(sizes))
    assert isinstance(steps, Halving)
    assert steps.size == sizes[-1]
    for a, b in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-14)
    assert f"runtime.micro_batch={sizes[-1]} begins with so many" in "".join(lines) or len(sizes) == 1


def test_where_one_image_is_too_much_it_is_an_error_with_its_remedy() -> None:
    steps, (theta, x, p, w, _) = made(4), point(4)
    with room_for(0), logged() as lines, pytest.raises(UserError, match=r"for one image at a time.*choose a smaller"):
        steps.gradient(theta, x, p, w)
    assert halvings(lines) == [(4, 2), (2, 1)]


def test_a_network_that_normalises_over_the_batch_is_an_error_at_once() -> None:
    build = partial(nn.Sequential, nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 10))
    steps = execution.step_functions(Student.of(build()), build, Work((1, 8, 8), 10, 6, 1000), CPU, "eager")
    x, p, w = torch.randn(6, 1, 8, 8), torch.full((6, 10), 0.1), torch.full((6,), 1 / 6)
    with room_for(5), logged() as lines, pytest.raises(UserError, match=r"for 6 images.*normalises over the batch"):
        steps.gradient(torch.randn(steps.step_functions.layout.size), x, p, w)
    assert lines == []


def test_other_errors_are_not_taken_for_it() -> None:
    steps, (theta, x, p, w, _) = made(4), point(4)
    illegal = RuntimeError("an illegal memory access was encountered")
    with room_for(0, illegal), logged() as lines, pytest.raises(RuntimeError, match="illegal memory access"):
        steps.gradient(theta, x, p, w)
    assert lines == []


def test_the_memory_of_the_machine_counts_too() -> None:
    steps, (theta, x, p, w, _) = made(4), point(4)
    with room_for(
        2, RuntimeError("[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory")
    ):
        steps.gradient(theta, x, p, w)
    assert steps.size == 2


def test_a_graph_that_does_not_fit_is_tried_with_smaller_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def warm_up(functions: object, student: Student, work: Work, at: execution.Point) -> None:
        tried.append(len(at.x))
        if len(at.x) > 10:
            raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr(execution, "_warm_up", warm_up)
    student = Student.of(CONVNET.build())
    with logged() as lines:
        steps = execution.step_functions(student, CONVNET.build, Work((1, 8, 8), 10, 32, 1000), CPU, "compiled")
    assert tried == [32, 16, 8]
    assert halvings(lines) == [(32, 16), (16, 8)]
    assert type(steps.step_functions.step_functions).__name__ == "Compiled"


@pytest.mark.cpu
def test_a_run_goes_on_by_itself_and_computes_the_same(tmp_path: Path) -> None:
    short = {"buffer__experts": 1, "distill__iterations": 2, "evaluate__epochs": 2, "evaluate__repeats": 1}
    whole, run = (Run(settings_in(tmp_path / name, **short)) for name in ("whole", "full"))
    pipeline.evaluate(whole)
    with room_for(4), logged() as lines:
        pipeline.evaluate(run)
    sizes = halvings(lines)
    assert (32, 16) in sizes  # the experts' batches, which are cut on a CPU
    assert (10, 5) in sizes
    for a, b in zip(variants(run), variants(whole), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("engine", "remedy"), [("adjoint", "choose a smaller network"), ("unroll", "set distill.engine=adjoint")]
)
def test_the_command_ends_in_one_line(cli: Cli, engine: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*inputs: Tensor) -> Tensor:
        raise torch.OutOfMemoryError(FULL)

    words = ("distill", "--set", f"distill.engine={engine}")
    cli.small("buffer", "--set", "buffer.experts=1")
    with monkeypatch.context() as patched, room_for(0):
        if engine == "unroll":
            patched.setattr(Student, "loss", full)
        told = cli.small(*words, "--set", "buffer.experts=1", code=2)
    (line,) = [line for line in told.splitlines() if line.startswith("attcli:")]
    assert remedy in line
    assert "Traceback" not in told
    cli.small(*words, "--set", "buffer.experts=1", "--set", "distill.iterations=1")
