"""Networks with batch statistics: short batches as they are, and tests that do not depend on the test batch."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from attcli import execution
from attcli.errors import UserError
from attcli.matching import engine
from attcli.matching.compiled import Compiled
from attcli.matching.parameters import vector
from attcli.matching.statistics import Unfilled, calibrated, unfilled
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.networks.norms import BatchNorm
from attcli.scoring.testing import accuracy
from attcli.trainers.training import Optimiser, train_epoch
from tests.matching import oracle
from tests.matching.cases import IMAGES, STEPS, case, relative

DSA = "color_crop_cutout_flip_scale_rotate"


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch._dynamo.reset()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("name", "tolerance"), [("adjoint", 1e-9), ("unroll", 1e-9)])
def test_engines_with_short_batches_under_batch_norm(name: str, tolerance: float, soft: bool) -> None:
    """12 images in batches of 5: every third batch has 2 images, and its statistics are those of the 2."""
    problem = case(5, DSA, soft=soft, arch="convnetbn")
    assert (problem.plan.weights == 0).any()
    batches, lr = problem.batches, torch.tensor(0.02)
    step_functions = unfilled(problem.student, problem.student.module)
    found = engine.load(name)(step_functions, problem.start, problem.target, batches, lr, lambda distances: STEPS)
    loss, (by_images, by_lr, *by_labels) = oracle.unroll(
        problem.student.module,
        problem.start,
        problem.target,
        problem.images,
        problem.labels,
        lr,
        problem.plan,
        STEPS,
    )
    ours, ours_labels = batches.gradients()
    assert relative(found.loss, loss) < tolerance
    assert relative(ours, by_images) < tolerance
    assert relative(found.lr_gradient, by_lr) < tolerance
    if soft:
        assert ours_labels is not None
        assert relative(ours_labels, by_labels[0]) < tolerance


def test_images_of_weight_0_would_change_the_statistics() -> None:
    problem = case(5, arch="convnetbn")
    step = int((problem.plan.weights == 0).any(dim=1).nonzero()[0])
    batch = problem.batches[step]
    whole = problem.student.gradient(problem.start, *batch)
    cut = unfilled(problem.student, problem.student.module).gradient(problem.start, *batch)
    assert relative(whole, cut) > 1e-3


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("asked", ["eager", "compiled"])
def test_the_executions_steps_see_short_batches_as_they_are(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    problem = case(5, arch="convnetbn")
    build = Architecture("convnetbn", 1, 10, 8, {}).build
    work = execution.Work((1, 8, 8), 10, 5, IMAGES, short=2, derivatives=True, dtype=torch.float64)
    made = execution.step_functions(problem.student, build, work, torch.device("cpu"), asked, halving=False)
    assert isinstance(made, Unfilled)
    assert isinstance(made.step_functions, Compiled) == (asked == "compiled")
    x, p, w = problem.batches[int((problem.plan.weights == 0).any(dim=1).nonzero()[0])]
    kept = w > 0
    lam = torch.randn_like(problem.start)
    ours = made.derivatives(problem.start, x, p, w, lam, labels=True)
    wanted = problem.student.derivatives(problem.start, x[kept], p[kept], w[kept], lam, labels=True)
    assert relative(ours.theta, wanted.theta) < 1e-10
    assert relative(ours.x[kept], wanted.x) < 1e-10
    assert not ours.x[~kept].any()
    assert ours.p is not None
    assert not ours.p[~kept].any()
    assert made.apart().gradient_and_logits(problem.start, x, p, w)[1].shape == (5, 10)


@pytest.mark.parametrize(("batch", "short"), [(1, 0), (11, 1)])
def test_a_batch_of_one_image_is_refused(batch: int, short: int) -> None:
    student = case(5, arch="convnetbn").student
    with pytest.raises(UserError, match="a single image, but the network normalises over the batch"):
        execution.slices(student, None, torch.device("cpu"), execution.Work((1, 8, 8), 10, batch, 12, short=short))


def plain_training(
    module: nn.Module, images: Tensor, labels: Tensor, orders: list[Tensor], batch: int, lr: float
) -> Tensor:
    """torch's own loop: its optimiser, its loss, batches cut from each order, the last one short."""
    optimiser = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    module.train()
    for order in orders:
        for index in order.split(batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(images[index]), labels[index]).backward()
            optimiser.step()
    return vector(module)


def test_experts_with_batch_norm_are_trained_as_torch_trains_them() -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(21, 1, 8, 8), torch.arange(21) % 4
    build = Architecture("convnet", 1, 4, 8, {"width": 8, "norm": "batch"}).build
    module = build()
    theta, student = vector(module).clone(), Student.of(build())
    work = execution.Work((1, 8, 8), 4, 8, 21, short=5, dtype=torch.float64)
    step_functions = execution.step_functions(student, build, work, torch.device("cpu"), "eager")
    optimiser, generator = Optimiser(0.05, 0.9, 5e-4), torch.Generator().manual_seed(1)
    for _ in range(3):
        train_epoch(
            step_functions, theta, optimiser, images, labels, classes=4, batch=8, strategy="none", generator=generator
        )
    drawn = torch.Generator().manual_seed(1)
    orders = [torch.randperm(21, generator=drawn) for _ in range(3)]
    assert relative(theta, plain_training(module, images, labels, orders, 8, 0.05)) < 1e-10


def test_written_out_batch_norm_is_torchs() -> None:
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(5, 3, 4, 4)
    assert torch.allclose(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x))
    plain = Student.of(nn.Sequential(BatchNorm(3))).module
    assert torch.allclose(plain(x), theirs.train()(x))


def test_tests_use_the_training_sets_statistics_whatever_the_test_batch() -> None:
    torch.manual_seed(0)
    architecture = Architecture("convnetbn", 1, 4, 8, {})
    student, theta = Student.of(architecture.build()), vector(architecture.build())
    images, tested, labels = torch.randn(300, 1, 8, 8), torch.randn(50, 1, 8, 8) + 1, torch.arange(50) % 4
    fixed = calibrated(student, theta, images)
    assert torch.allclose(fixed.logits(theta, tested)[:3], fixed.logits(theta, tested[:3]))
    assert not torch.allclose(student.logits(theta, tested)[:3], student.logits(theta, tested[:3]))
    shuffled = torch.randperm(50)
    assert accuracy(fixed, theta, tested, labels) == accuracy(fixed, theta, tested[shuffled], labels[shuffled])
    first = fixed.module[1]
    maps = nn.functional.conv2d(images, theta[: 9 * 128].view(128, 1, 3, 3), theta[9 * 128 : 10 * 128], padding=1)
    assert torch.allclose(first.running_mean, maps.mean(dim=(0, 2, 3)))
    halves = maps.split(150)
    assert torch.allclose(first.running_var, sum(half.transpose(0, 1).flatten(1).var(dim=1) for half in halves) / 2)
    assert not list(student.module.buffers())  # the student itself stays pure


def test_networks_without_batch_statistics_are_tested_as_they_are() -> None:
    student = case(5).student
    assert calibrated(student, vector(student.module), torch.randn(3, 1, 8, 8)) is student
    assert unfilled(student, student.module) is student
