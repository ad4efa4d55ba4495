"""The engines against the plain full unroll, in float64."""

import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn

from attcli.matching import adjoint, batches, engine, graphed, select
from attcli.matching.batches import Plan
from attcli.matching.compare import Compared
from attcli.matching.compiled import Compiled
from attcli.matching.graphed import Graphed, record
from attcli.matching.microbatch import MicroBatched, sliced
from attcli.matching.step_functions import StepFunctions
from attcli.matching.student import Student, has_batch_statistics
from tests.matching.cases import DSA, IMAGES, STEPS, Case, case, relative
from tests.matching.oracle import Counts, deep, everything, far, tesla, unroll

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_exact(
    found: Case,
    step_functions: StepFunctions,
    name: str,
    k: int,
    tolerance: float = 1e-10,
    wanted_by: Callable = unroll,
) -> None:
    """The engine's loss and all its gradients are those of the plain unroll, or of another oracle."""
    lr = torch.tensor(0.1).to(found.start)
    seen = found.batches
    match = engine.load(name)(step_functions, found.start, found.target, seen, lr, lambda distances: k)
    by_images, by_logits = seen.gradients()
    loss, wanted = wanted_by(
        found.student.module, found.start, found.target, found.images, found.labels, lr, found.plan, k
    )
    assert relative(match.loss, loss) < tolerance
    assert relative(by_images, wanted[0]) < tolerance
    assert relative(match.lr_gradient, wanted[1]) < tolerance
    assert (by_logits is not None) == found.labels.is_floating_point()
    if by_logits is not None:
        assert relative(by_logits, wanted[2]) < tolerance


@pytest.mark.parametrize("k", [1, 4, STEPS])
@pytest.mark.parametrize("batch", [IMAGES, 4, 5], ids=["full", "sub-batches", "short-last-batch"])
@pytest.mark.parametrize("strategy", ["none", DSA])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("name", ["adjoint", "unroll"])
def test_gradients_are_those_of_the_full_unroll(name: str, k: int, batch: int, strategy: str, soft: bool) -> None:
    found = case(batch, strategy, soft=soft)
    assert_exact(found, found.student, name, k)


SLOW = [pytest.param(arch, marks=pytest.mark.slow) for arch in ("vgg11", "resnet18")]


@pytest.mark.parametrize("arch", ["mlp", "lenet", "alexnet", *SLOW])
def test_gradients_for_every_network(arch: str) -> None:
    found = case(4, "scale_crop", arch=arch, steps=2)
    assert_exact(found, found.student, "adjoint", 2, 1e-8)


@pytest.mark.parametrize("size", [1, 3, 5, 12])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("batch", [IMAGES, 5], ids=["full", "short-last-batch"])
def test_micro_batches_are_exact(batch: int, soft: bool, size: int) -> None:
    found = case(batch, DSA, soft=soft)
    assert_exact(found, MicroBatched(found.student, min(size, batch)), "adjoint", STEPS)


@pytest.fixture(scope="module")
def compiled() -> Iterator[dict[str, StepFunctions]]:
    """One compilation for each network, used by all cases (they share shapes through slices of four images)."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("needs a C++ compiler and Python's headers")
    torch.set_default_dtype(torch.float64)
    yield {
        arch: MicroBatched(Compiled(case(4, arch=arch).student, channels_last=arch == "convnet"), 4)
        for arch in ("convnet", "mlp", "lenet")
    }
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "arch", ["convnet", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("mlp", "lenet"))]
)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("strategy", ["none", DSA])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_steps_are_exact(compiled: dict[str, StepFunctions], arch: str, soft: bool, strategy: str) -> None:
    for batch in (4, IMAGES, 5):
        found = case(batch, strategy, soft=soft, arch=arch, steps=3)
        assert_exact(found, compiled[arch], "adjoint", 3)


def on_gpu(found: Case) -> Case:
    device = torch.device("cuda")
    return Case(
        Student.of(found.student.module.to(device)),
        found.start.to(device),
        found.target.to(device),
        found.images.to(device),
        found.labels.to(device),
        found.plan.to(device),
    )


@GPU
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_graphs_are_exact(soft: bool) -> None:
    """Of eager steps: the compiled h makes a GPU fail with torch 2.11, and all tests after it."""
    found = on_gpu(case(4, DSA, soft=soft))
    graphed = Graphed(found.student)
    assert_exact(found, graphed, "adjoint", STEPS)
    assert_exact(found, MicroBatched(graphed, 2), "adjoint", 4)
    assert_exact(found, graphed, "adjoint", 3)


def test_a_capture_bears_what_other_threads_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """By stand-ins: the default mode forbids other threads to pin memory while a graph is captured."""
    modes: list[str] = []

    def graph(captured: object, *, stream: object, capture_error_mode: str = "global") -> AbstractContextManager[None]:
        modes.append(capture_error_mode)
        return nullcontext()

    stand_ins = {"Stream": MagicMock(), "current_stream": MagicMock(), "CUDAGraph": MagicMock(), "graph": graph}
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.cuda, "stream", lambda side: nullcontext())
    assert record(lambda x: (2 * x,), (torch.ones(2),)).outputs[0].tolist() == [2, 2]
    assert modes == ["thread_local"]


def test_only_the_recordings_that_are_asked_for_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in: each recording holds memory, and short batches may come in many sizes."""
    recorded: list[int] = []

    def recording(function: Callable[..., object], inputs: tuple[Tensor, ...]) -> MagicMock:
        recorded.append(len(inputs[1]))
        return MagicMock(replay=lambda inputs: function(*inputs))

    monkeypatch.setattr(graphed, "record", recording)
    found = case(6)
    steps = Graphed(found.student)
    for size in (6, 1, 6, 2, 6, 3, 6, 4, 6, 5, 6, 1):
        x, p, w = found.batches[0]
        g = steps.gradient(found.start, x[:size], p[:size], w[:size])
        assert torch.equal(g, found.student.gradient(found.start, x[:size], p[:size], w[:size]))
    assert recorded == [6, 1, 2, 3, 4, 5, 1]
    assert len(steps._recordings) == graphed.KEPT


def test_states_go_to_host_memory_where_the_device_turns_out_to_be_full(monkeypatch: pytest.MonkeyPatch) -> None:
    full, empty = iter([True]), torch.empty

    def allocate(*arguments: Any, **options: Any) -> Tensor:
        if next(full, False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return empty(*arguments, **options)

    monkeypatch.setattr(torch, "empty", allocate)
    states = adjoint.States(torch.ones(3), 2)
    states[1] = torch.zeros(3)
    assert states.storage.type == "cpu"
    assert (states[0].tolist(), states[1].tolist()) == ([1, 1, 1], [0, 0, 0])


@GPU
def test_states_in_host_memory_are_the_same_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adjoint, "HOST_SHARE", 0.0)
    found = on_gpu(case(5, DSA))
    assert adjoint.States(found.start, 1).storage.type == "cpu"
    assert_exact(found, Graphed(found.student), "adjoint", STEPS)


def test_slices_are_equal_and_none_is_above_the_limit() -> None:
    assert [sliced(batch, 32) for batch in (1, 10, 32, 33, 100, 512)] == [1, 10, 32, 17, 25, 32]


def test_batch_statistics_are_seen() -> None:
    assert not has_batch_statistics(case(4).student.module)
    assert has_batch_statistics(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)))


@pytest.mark.parametrize("together", [1, 8, 2_000, 100_000])
def test_the_size_of_a_group_that_is_augmented_together_changes_nothing(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(batches.GROUP_VALUES, "cpu", together)
    found = case(5, DSA, soft=True)
    assert_exact(found, found.student, "adjoint", 6)
    assert_exact(found, found.student, "unroll", 6)


def test_states_in_host_memory_are_the_same() -> None:
    found, lr = case(5, DSA), torch.tensor(0.1)
    kept, distances = adjoint.trajectory(found.student, found.start, found.target, found.batches, lr)
    host = torch.device("cpu")
    moved, again = adjoint.trajectory(found.student, found.start, found.target, found.batches, lr, host)
    assert torch.equal(distances, again)
    assert all(torch.equal(kept[i], moved[i]) for i in range(STEPS + 1))


def test_distances_select_and_loss_belong_together() -> None:
    found, lr = case(5, DSA), torch.tensor(0.1)
    match = adjoint.match(found.student, found.start, found.target, found.batches, lr, select.nearest)
    states, _ = adjoint.trajectory(found.student, found.start, found.target, found.batches, lr)
    later = torch.stack([states[i] for i in range(1, STEPS + 1)])
    by_hand = (later - found.target).abs().sum(dim=1)
    assert torch.allclose(match.distances[0], by_hand)
    assert torch.allclose(match.distances[1], (later - found.target).norm(dim=1))
    assert by_hand[match.step - 1] == by_hand.min()
    reached = match.distances[1, match.step - 1] ** 2 / (found.start - found.target).square().sum()
    assert torch.allclose(match.loss, reached)


@pytest.mark.parametrize(
    ("name", "every"), [("adjoint", 1), ("adjoint", 4), ("adjoint", 99), ("unroll", 1), ("tesla", 4)]
)
def test_with_patience_the_step_of_the_whole_training_is_matched_with_less_of_it(
    name: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adjoint, "LOOKED_EVERY", {"cpu": every})
    found, lr = case(5, DSA, soft=True), torch.tensor(0.3)
    nearer = torch.lerp(
        found.start, adjoint.trajectory(found.student, found.start, found.target, found.batches, lr)[0][3], 0.9
    )
    matches, gradients = [], []
    for stop in (None, lambda distances: select.without_hope(distances, "l2", 2)):
        seen = found.batches
        nearest = engine.load(name)(
            found.student, found.start, nearer, seen, lr, lambda distances: select.nearest(distances, "l2"), stop
        )
        matches.append(nearest)
        gradients.append(seen.gradients())
    whole, shorter = matches
    assert (whole.distances.shape[1], shorter.distances.shape[1]) == (STEPS, whole.step + 2)
    assert shorter.step == whole.step < STEPS - 2
    assert torch.equal(shorter.distances, whole.distances[:, : whole.step + 2])
    assert torch.equal(shorter.loss, whole.loss)
    assert torch.equal(shorter.lr_gradient, whole.lr_gradient)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_images_met_only_after_the_matched_step_have_no_gradient() -> None:
    found = case(4)
    seen = found.batches
    adjoint.match(found.student, found.start, found.target, seen, torch.tensor(0.1), lambda distances: 1)
    moved = {i for i in range(IMAGES) if seen.gradients()[0][i].abs().sum() > 0}
    assert moved == set(found.plan.indices[0].tolist())


@pytest.mark.parametrize(
    "fast", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["in-one-direction", "in-all"]
)
def test_gradcheck(fast: bool) -> None:
    found = case(IMAGES, "scale_color", arch="mlp", steps=2)

    class Engine(torch.autograd.Function):
        @staticmethod
        def forward(context, pixels, lr):
            seen = Case(found.student, found.start, found.target, pixels.detach(), found.labels, found.plan).batches
            match = adjoint.match(found.student, found.start, found.target, seen, lr.detach(), lambda distances: 2)
            context.save_for_backward(seen.gradients()[0], match.lr_gradient)
            return match.loss

        @staticmethod
        def backward(context, outer):
            by_images, by_lr = context.saved_tensors
            return outer * by_images, outer * by_lr

    inputs = found.images.requires_grad_(), torch.tensor(0.1, requires_grad=True)
    assert torch.autograd.gradcheck(Engine.apply, inputs, eps=1e-6, atol=1e-6, fast_mode=fast)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("size", [5, 2], ids=["whole", "micro-batches"])
def test_tesla_is_what_its_authors_describe(soft: bool, size: int) -> None:
    found = case(5, DSA, soft=soft)
    assert_exact(found, MicroBatched(found.student, size), "tesla", 5, wanted_by=tesla)


@pytest.mark.parametrize("name", ["adjoint", "unroll", "tesla"])
@pytest.mark.parametrize("rule", ["deep", "far"])
def test_some_numbers_alone_are_compared(name: str, rule: Literal["deep", "far"]) -> None:
    found, share = case(5, DSA, soft=True), 0.3
    counts: Counts = {"deep": deep, "far": far}[rule](share)
    seen, lr, compared = found.batches, torch.tensor(0.1), Compared(rule, share)
    match = engine.load(name)(
        found.student, found.start, found.target, seen, lr, lambda row: select.nearest(row, "l2"), compared=compared
    )
    wanted_by = tesla if name == "tesla" else unroll
    span = (found.student.module, found.start, found.target, found.images, found.labels, lr, found.plan)
    by_distance = deep(share) if rule == "deep" else everything  # far knows its numbers once the step is chosen
    losses = [float(unroll(*span, k, by_distance)[0].detach()) for k in range(1, STEPS + 1)]
    moved = (found.start - found.target)[by_distance(found.start, found.target)].square().sum()
    assert torch.allclose(match.distances[1].square() / moved, torch.tensor(losses))
    assert match.step == 1 + min(range(STEPS), key=losses.__getitem__)
    loss, wanted = wanted_by(*span, match.step, counts)
    assert relative(match.loss, loss) < 1e-10
    assert relative(match.lr_gradient, wanted[1]) < 1e-10
    for found_gradient, gradient in zip(seen.gradients(), (wanted[0], wanted[2]), strict=True):
        assert found_gradient is not None
        assert relative(found_gradient, gradient) < 1e-10
    assert relative(loss.detach(), wanted_by(*span, match.step)[0]) > 1e-3  # which all numbers would not give


def test_tesla_is_exact_for_one_step_and_drifts_with_more() -> None:
    found = case(IMAGES)

    def gap(k: int) -> float:
        gradients: list[Tensor] = []
        for name in ("tesla", "adjoint"):
            seen = found.batches
            engine.load(name)(found.student, found.start, found.target, seen, torch.tensor(0.5), lambda distances: k)
            gradients.append(seen.gradients()[0])
        return relative(*gradients)

    assert gap(1) < 1e-12
    assert gap(STEPS) > gap(2) > 1e-3


def test_bfloat16_and_float32_stay_near_the_exact_gradient() -> None:
    exact = case(4, DSA)
    lr = torch.tensor(0.1)
    seen = exact.batches
    adjoint.match(exact.student, exact.start, exact.target, seen, lr, lambda distances: STEPS)
    wanted = seen.gradients()[0]
    for dtype, least, tolerance in ((None, 0, 1e-4), (torch.bfloat16, 1e-3, 0.3)):
        torch.set_default_dtype(torch.float32)
        found = Case(
            Student.of(exact.student.module.float(), dtype),
            exact.start.float(),
            exact.target.float(),
            exact.images.float(),
            exact.labels,
            Plan(exact.plan.indices, exact.plan.weights.float(), exact.plan.augmentations),
        )
        seen = found.batches
        match = adjoint.match(found.student, found.start, found.target, seen, lr.float(), lambda distances: STEPS)
        assert match.lr_gradient.dtype == seen.gradients()[0].dtype == torch.float32
        assert least <= relative(seen.gradients()[0].double(), wanted) < tolerance
        torch.set_default_dtype(torch.float64)
