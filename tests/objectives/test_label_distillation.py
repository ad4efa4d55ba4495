"""Labels by a step ahead: gradients against the plain graph in float64, the network that is trained along, its ends."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from attcli.stages import distill, inputs, pipeline
from attcli.stages.run import Run
from attcli.store import experts, states
from tests.objectives.test_real_loss import PRECISE, Twice

CHANGES: dict[str, object] = {
    "distill__method": "ld",
    "distill__real_batch": 37,
    "distill__batch_syn": 6,
    "distill__syn_steps": 1,
    "distill__lr_labels": 0.3,
    "distill__lr_img": 0.0,
    "distill__lr_init": 0.5,
    "distill__augment": "none",
}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def begun(run: Run) -> tuple[distill.Loop, states.State]:
    pipeline.prepare(run)
    return distill.begin(run, Twice(inputs.read_dataset(run)), experts.Experts([]))


def named(module: nn.Module, theta: Tensor) -> dict[str, Tensor]:
    parts = theta.split([parameter.numel() for parameter in module.parameters()])
    return {n: part.view(p.shape) for (n, p), part in zip(module.named_parameters(), parts, strict=True)}


def test_a_short_batch_is_not_the_only_one(make_run: Callable[..., Run]) -> None:
    loop, _ = begun(make_run(**{**CHANGES, **PRECISE}))  # batches of 6 of 10 images
    for iteration in range(3):
        assert int((loop.objective.ahead(iteration, 0).window.weights > 0).sum()) == 6


@pytest.mark.cpu
@pytest.mark.parametrize("n_steps", [1, 3])
def test_its_gradient_is_that_of_the_plain_graph(n_steps: int, make_run: Callable[..., Run]) -> None:
    loop, state = begun(make_run(**{**CHANGES, **PRECISE, "distill__syn_steps": n_steps}))
    objective = loop.objective
    assert torch.equal(state.labels, torch.zeros(10, 10))
    state.learned[states.LOGITS] = torch.randn(10, 10)
    images = loop.coding.images(state.coded(), state.scales)
    first, second = objective.ahead(0, 0), objective.ahead(1, 0)
    memory = objective.slope(images, state.labels, state.lr, first).memory
    slope = objective.slope(images, state.labels, state.lr, second, memory)

    module = objective.step_functions.step_functions.module
    logits, lr = state.labels.clone().requires_grad_(), state.lr.clone().requires_grad_()
    images = images.clone().requires_grad_()
    directions: list[Tensor] = []
    plan, theta = second.window, memory["theta"].clone().requires_grad_()
    for step in range(n_steps):
        index, w = plan.indices[step], plan.weights[step]
        outputs = functional_call(module, named(module, theta), (images[index],)).log_softmax(dim=1)
        loss = -(w * (logits[index].softmax(dim=1) * outputs).sum(dim=1)).sum()
        directions += torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * directions[-1]
    x, y = objective._real.batch(second.tested, images.detach())
    total = nn.functional.cross_entropy(functional_call(module, named(module, theta), (x,)), y)
    wanted = torch.autograd.grad(total, [images, logits, lr])
    assert torch.allclose(slope.loss, total, rtol=1e-9)
    for ours, theirs in zip((slope.images, slope.logits, slope.lr), wanted, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-8 * float(theirs.abs().max()))

    parameter = nn.Parameter(memory["theta"].clone())  # the network that is trained along: torch's second step of Adam
    torchs = torch.optim.Adam([parameter], lr=0.001)
    torchs.state[parameter] = {"step": torch.tensor(1.0), "exp_avg": memory["first"].clone()}
    torchs.state[parameter]["exp_avg_sq"] = memory["second"].clone()
    parameter.grad = directions[0].detach()
    torchs.step()
    assert torch.allclose(slope.memory["theta"], parameter, rtol=0, atol=1e-8)
    assert int(slope.memory["steps"]) == 2

    answers = functional_call(module, named(module, memory["theta"]), (x,)).argmax(dim=1)
    told = objective._real.loss(memory["theta"], second.tested)
    assert float(told.error) == pytest.approx(float((answers != y).double().mean()))
    assert float(told.error) != 0.5  # so that == in the place of != is seen


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        # whose means over two are 0.7, 0.6, 0.7, 0.7 and 0.65
        ((0.9, 0.5, 0.7, 0.7, 0.7, 0.6), [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 1, 4), (0, 2, 5), (1, 0, 0)]),
        # a low error alone is no minimum: 0.5, 0.8, 0.8 and 0.9
        ((0.1, 0.9, 0.7, 0.9, 0.9), [(0, 0, 1), (0, 0, 2), (0, 1, 3), (0, 2, 4), (1, 0, 0)]),
    ],
)
def test_a_new_network_begins_where_errors_no_longer_fall(
    errors: tuple[float, ...], expected: list[tuple[int, int, int]], make_run: Callable[..., Run]
) -> None:
    loop, state = begun(make_run(**{**CHANGES, **PRECISE, "distill__along_patience": 2}))
    objective = loop.objective
    told = []
    for error in errors:
        fake = torch.tensor(error)
        objective._real.loss = lambda theta, drawn, fake=fake: (theta.sum() * 0, torch.zeros_like(theta), fake)
        state, _ = loop.iterate(state, loop.spans.ahead(state.iteration))
        told.append((int(state.memory["number"]), int(state.memory["age"]), int(state.memory["steps"])))
    assert told == expected
    assert float(state.memory["smallest"]) == 2
    images = loop.coding.images(state.coded(), state.scales)
    first, second = (objective._begin(number, images)["theta"] for number in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(state.memory["theta"], second)


def test_images_stay_and_labels_move(make_run: Callable[..., Run]) -> None:
    loop, before = begun(make_run(**{**CHANGES, **PRECISE}))
    after, _ = loop.iterate(before, loop.spans.ahead(0))
    assert torch.equal(after.learned["images"], before.learned["images"])
    assert not torch.equal(after.labels, before.labels)


def test_a_distillation_that_is_resumed_goes_on_with_its_network(make_run: Callable[..., Run]) -> None:
    torch.set_default_dtype(torch.float32)
    small = {**CHANGES, "distill__along_patience": 1, "distill__lr_labels": 5.0}
    at_once = make_run(**small, distill__iterations=6)
    pipeline.distill(at_once)
    apart = at_once.settings.runtime.artifacts.parent / "apart"
    for iterations in (3, 6):
        resumed = make_run(apart, **small, distill__iterations=iterations)
        pipeline.distill(resumed)
    first, second = (states.snapshots(run.snapshots)[-1] for run in (at_once, resumed))
    normaliser = inputs.read_dataset(at_once).normaliser
    one, other = states.read(first, normaliser), states.read(second, normaliser)
    assert int(one.memory["number"]) > 0
    assert {"theta", "first", "second", "steps", "number", "errors", "smallest", "age"} == set(one.memory)
    for name, x in one.memory.items():
        assert torch.equal(x, other.memory[name])
    assert torch.equal(one.labels, other.labels)
