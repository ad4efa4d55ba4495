"""CAFE: its loss and gradient against plain autograd in float64, and its two rules."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.objectives import cafe, tapped
from attcli.stages import pipeline
from attcli.stages.run import Run
from tests.objectives.cases import PRECISE, begun, close, named
from tests.stages.observed import contents, states_of

SMALL: dict[str, object] = {
    "distill__method": "cafe",
    "distill__augment": "none",
    "distill__ipc": 2,
    "distill__real_per_class": 9,
    "distill__query_per_class": 3,
    "distill__lr_img": 0.1,
}


@pytest.fixture
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.cpu
@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("strategy", ["none", "flip"])
def test_its_gradient_is_that_of_the_plain_graph(strategy: str, make_run: Callable[..., Run]) -> None:
    changes = {"distill__augment": strategy, "network__depth": 3, "runtime__micro_batch": 4}
    _, objective, state, images = begun(make_run(**{**SMALL, **PRECISE, **changes}))
    drawn = objective.ahead(3, 0)
    slope = objective.slope(images, state.labels, state.lr, drawn)

    module = objective._inputs.student.module
    parameters = named(module, objective._network.fresh(3, images))
    images = images.detach().requires_grad_()

    def layers(x: Tensor) -> list[Tensor]:
        """After each block's ReLU, after the last pool, and the flattened features."""
        met, last = [], x
        for place, layer in enumerate(list(module)[:-1]):
            own = {name: parameters[f"{place}.{name}"] for name, _ in layer.named_parameters()}
            x = functional_call(layer, own, (x,))
            met += [x] if isinstance(layer, nn.ReLU) else []
            last = x if not isinstance(layer, nn.Flatten) else last
        return [*met, last, x]

    def seen(x: Tensor, c: int) -> Tensor:
        operation, uniform = drawn.batches.plan.augmentations[c]
        return x.flip(3) if operation and float(uniform[0, 0]) < 0.5 else x

    real = [layers(seen(objective._classes.real[drawn.batches.real[c]], c)) for c in range(10)]
    own = [layers(seen(images[2 * c : 2 * c + 2], c)) for c in range(10)]
    total = torch.zeros(())
    for weight, place in zip((0.1, 0.1, 1, 1, 1), range(5), strict=True):
        for a, b in zip(real, own, strict=True):
            total = total + weight * ((a[place].mean(dim=0) - b[place].mean(dim=0)) ** 2).sum()
    logits = torch.cat([of[-1] for of in real]) @ torch.stack([of[-1].mean(dim=0) for of in own]).T
    total = total + 0.01 * F.cross_entropy(logits, torch.arange(10).repeat_interleave(9), reduction="sum")
    (wanted,) = torch.autograd.grad(total, images)
    assert torch.allclose(slope.loss, total, rtol=1e-9)
    assert close(slope.images, wanted)


class Twice(nn.Module):
    """A network that uses one activation twice, and others never."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 3, 3), nn.Linear(3, 10)
        self.activate, self.unused = nn.ReLU(), nn.Sequential(nn.Tanh(), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.activate(self.activate(self.conv(x)).mean(dim=(2, 3))))
        return logits


def test_all_activations_of_a_residual_network_are_aligned(make_run: Callable[..., Run]) -> None:
    _, objective, _, images = begun(make_run(**SMALL))
    classes = objective._inputs.architecture.classes
    student = Student.of(Architecture("resnet18", images.shape[1], classes, images.shape[2], {}).build())
    taps = tapped.Tapped(replace(objective._inputs, student=student), objective._classes, activations=True)
    assert taps.layers == 17, "one after the stem, and two in each of eight blocks"


@pytest.mark.cpu
def test_a_layer_counts_whenever_it_is_met(make_run: Callable[..., Run]) -> None:
    _, objective, _, images = begun(make_run(**SMALL))
    module = Twice()
    others = replace(objective._inputs, student=Student.of(module))
    taps = tapped.Tapped(others, objective._classes, activations=True)
    assert [mean.shape for mean in taps.of_set(vector(module), images)] == [(10, 108), (10, 3), (10, 3)]
    assert taps.layers == 2


def test_the_rules_look_at_ten_accuracies() -> None:
    near, far = [0.5, 0.53] * 5, [0.5, 0.54] * 5
    assert [cafe.settled(near[:9], 0.04), cafe.settled(near, 0.04), cafe.settled(far, 0.04)] == [False, True, False]
    assert cafe.settled([0.1, *near], 0.04)  # the last ten
    assert [cafe.moved(far[:9], 0.03), cafe.moved(far, 0.03), cafe.moved([0.5, 0.52] * 5, 0.03)] == [False, True, False]


def test_a_network_lives_until_its_accuracy_settles(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, objective, state, _ = begun(make_run(**{**SMALL, "distill__most_epochs": 12}))
    read: list[tuple[int, int]] = []

    def accuracy(theta: Tensor, iteration: int, passes: int) -> float:
        read.append((iteration, passes))
        return 0.5 if passes == 0 or iteration == 1 else 0.1 * passes

    monkeypatch.setattr(objective, "_accuracy", accuracy)
    steps = []
    for iteration in range(13):
        state, records = loop.iterate(state, loop.spans.ahead(iteration))
        steps.append(records[0].step)
    assert steps == [*range(1, 11), 1, 2, 3]  # at the tenth accuracy, before iteration 10, it has settled
    passes = {i: max(p for j, p in read if j == i) for i, _ in read}
    assert passes[1] == 11  # it never moves: the last of most_epochs is not read
    assert passes[2] == 10  # it has moved as soon as there are ten
    assert passes[10] == 0
    assert 0 not in passes


@pytest.mark.parametrize("stopping", ["accuracy", "fixed"])
def test_it_resumes_with_the_same_bits(stopping: str, make_run: Callable[..., Run], tmp_path: Path) -> None:
    changes = {**SMALL, "distill__stopping": stopping, "distill__outer_steps": 4, "distill__inner_epochs": 1}
    changes |= {"distill__most_epochs": 2, "network__width": 4, "distill__init": "real", "distill__iterations": 4}
    whole = make_run(tmp_path / "whole", **changes)
    pipeline.distill(whole)
    assert {"theta"} < states_of(whole)[0].memory.keys()
    for iterations in (2, 4):
        parts = make_run(tmp_path / "parts", **{**changes, "distill__iterations": iterations})
        pipeline.distill(parts)
    assert contents(parts) == contents(whole)


def test_image_steps_at_one_network_lessen_the_loss(make_run: Callable[..., Run]) -> None:
    loop, objective, state, _ = begun(make_run(**SMALL))
    losses = []
    for _ in range(4):
        state, records = loop.iterate(state, [objective.ahead(0, 0)])
        losses.append(records[0].loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.99 * losses[0]


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize(
    "changes",
    [
        {"distill__objective": "gradient", "distill__ipc": 2, "distill__real_per_class": 9},
        {"distill__method": "cafe", "distill__augment": "none", "distill__ipc": 2, "distill__real_per_class": 9},
        {"distill__method": "real-loss", "distill__real_batch": 37, "distill__batch_syn": 7},
    ],
)
def test_each_span_draws_for_itself(changes: dict[str, object], make_run: Callable[..., Run]) -> None:
    _, objective, _, _ = begun(make_run(**{**changes, **PRECISE}))
    one, other = objective.ahead(0, 0), objective.ahead(0, 1)
    if "batches" in one._fields:
        assert not torch.equal(one.batches.real, other.batches.real)
    else:
        assert not torch.equal(one.tested.images, other.tested.images)
        assert not torch.equal(one.window.indices, other.window.indices)


@pytest.mark.usefixtures("_float64")
def test_the_accuracy_is_the_share_of_queried_images_that_are_right(make_run: Callable[..., Run]) -> None:
    _, objective, _, images = begun(make_run(**{**SMALL, **PRECISE}), query_per_class=10**6)
    module, theta = objective._inputs.student.module, objective._network.fresh(3, images)
    noise = torch.randn(len(theta), generator=torch.Generator().manual_seed(0))
    theta = theta + 0.5 * noise  # else it has one answer for all
    labels = objective._inputs.data.labels["train"]
    x = objective._classes.real[torch.arange(len(labels))].to(theta)
    right = functional_call(module, named(module, theta), (x,)).argmax(dim=1).cpu() == labels
    assert objective._accuracy(theta, 3, 0) == pytest.approx(float(right.double().mean()))
    objective._settings = objective._settings.model_copy(update={"query_per_class": 3})
    few = {objective._accuracy(theta, 3, passes) for passes in range(4)}
    assert len(few) > 1  # drawn anew
    assert all(abs(30 * accuracy - round(30 * accuracy)) < 1e-9 for accuracy in few)  # of three images of ten classes
