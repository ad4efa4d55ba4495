"""Distribution matching: its gradient against plain autograd in float64, and how features are found."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from attcli import augment, registry
from attcli.errors import UserError
from attcli.matching import features
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.stages import pipeline
from attcli.stages.run import Run
from tests.faults.faulty import FULL
from tests.objectives.cases import PRECISE, begun, close, named
from tests.stages.observed import logged

SMALL: dict[str, object] = {"distill__objective": "distribution", "distill__ipc": 2, "distill__real_per_class": 9}


@pytest.fixture
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.cpu
@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("arch", ["convnet", "convnetbn"])
@pytest.mark.parametrize("strategy", ["color_crop_cutout_flip_scale_rotate", "none"])
def test_its_gradient_is_that_of_the_plain_graph(strategy: str, arch: str, make_run: Callable[..., Run]) -> None:
    sliced = {"runtime__micro_batch": 4} if arch == "convnet" else {}
    changes = {**SMALL, **PRECISE, "distill__augment": strategy, "network__arch": arch, **sliced}
    if arch == "convnetbn":
        changes.pop("network__width")
    _, objective, state, images = begun(make_run(**changes))
    drawn = objective.ahead(3, 0)
    slope = objective.slope(images, state.labels, state.lr, drawn)

    module = objective._inputs.student.module
    parameters, body = named(module, drawn.theta), nn.Sequential(*list(module)[:-1])
    images = images.detach().requires_grad_()

    def of(x: Tensor) -> Tensor:
        return functional_call(body, {n: p for n, p in parameters.items() if n in dict(body.named_parameters())}, (x,))

    real, own = [], []
    for c in range(10):
        operation, uniform = drawn.batches.plan.augmentations[c]
        index, x = drawn.batches.real[c], images[2 * c : 2 * c + 2]
        assert {*objective._inputs.data.labels["train"][index].tolist()} == {c}
        for into, seen in ((real, objective._classes.real[index]), (own, x)):
            same = augment.Draw(operation, uniform[:1].expand(len(seen), -1) if operation else uniform)
            into.append(augment.apply(same, seen))
    means = of(torch.cat(real)).flatten(1).view(10, 9, -1).mean(dim=1)
    total = ((of(torch.cat(own)).flatten(1).view(10, 2, -1).mean(dim=1) - means) ** 2).sum()
    (wanted,) = torch.autograd.grad(total, images)
    assert torch.allclose(slope.loss, total, rtol=1e-9)
    assert close(slope.images, wanted)
    assert (float(slope.lr), slope.logits, slope.memory) == (0, None, {})


def test_no_device_is_asked_which_real_images_there_are(make_run: Callable[..., Run]) -> None:
    _, objective, _, _ = begun(make_run(**SMALL))
    members = objective._classes._members
    members[3] = members[3][:4]
    batches = objective.ahead(0, 0).batches
    objective._classes.real = objective._classes.real.to("meta")  # of which nothing can be asked
    counts = [len(objective._taps._real(batches, c)) for c in range(10)]
    assert counts == [9, 9, 9, 4, 9, 9, 9, 9, 9, 9]


@pytest.mark.parametrize("arch", registry.names("network"))
def test_the_last_layer_of_every_network_is_found(arch: str) -> None:
    module = Architecture(arch, 1, 10, 16, {}).build()
    student = Student.of(module)
    layer = features.last_linear(student, torch.zeros(2, 1, 16, 16))
    assert layer is [part for part in module.modules() if isinstance(part, nn.Linear)][-1]


class Odd(nn.Module):
    """A network of a user: its last layer is defined first, and called as a part."""

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        self.head, self.body, self.scaled = nn.Linear(5, 3), nn.Linear(16, 5), scaled

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x.flatten(1)).relu())
        return 2 * logits if self.scaled else logits


def test_the_last_layer_of_a_users_network_is_found_by_its_output() -> None:
    module = Odd(scaled=False)
    taps = features.Taps.of(Student.of(module), torch.randn(2, 1, 4, 4))
    x = torch.randn(6, 1, 4, 4)
    theta = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    (phi,) = taps.at(theta, x)
    assert torch.allclose(phi, module.body(x.flatten(1)).relu())
    with pytest.raises(features.NoFeaturesError):
        features.last_linear(Student.of(Odd(scaled=True)), x)


def test_labels_cannot_be_learned(make_run: Callable[..., Run]) -> None:
    with pytest.raises(UserError, match=r"the objective distribution .* no use for labels; set distill.labels=hard"):
        make_run(**SMALL, distill__labels="learned")


@pytest.mark.parametrize("method", ["dm", "dm+multiformation+uint8"])
def test_image_steps_at_one_network_lessen_the_distance(method: str, make_run: Callable[..., Run]) -> None:
    rate = {"dm": 0.1, "dm+multiformation+uint8": 0.05}[method]
    small = {"distill__lr_img": rate, "distill__real_per_class": 9, "network__width": 4, "distill__scales_every": 1}
    loop, objective, state, _ = begun(make_run(distill__method=method, **small))
    losses = []
    for _ in range(4):
        state, records = loop.iterate(state, [objective.ahead(0, 0)])
        losses.append(records[0].loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.97 * losses[0]


class Members:
    """Processes that share the classes, as threads of one."""

    def __init__(self, size: int) -> None:
        self.size, self._kept, self._met = size, [torch.empty(0)] * size, Barrier(size)

    def gathered(self, rank: int, x: Tensor) -> list[Tensor]:
        self._kept[rank] = x
        self._met.wait(60)
        everything = list(self._kept)
        self._met.wait(60)
        return everything


@dataclass
class Member:
    members: Members
    rank: int

    @property
    def size(self) -> int:
        return self.members.size

    def gathered(self, x: Tensor) -> list[Tensor]:
        return self.members.gathered(self.rank, x)


@pytest.mark.parametrize("size", [3, 11])
def test_processes_that_share_the_classes_compute_the_same_bits(size: int, make_run: Callable[..., Run]) -> None:
    run = make_run(**SMALL, network__width=4)
    _, alone, state, images = begun(run)
    objectives = [begun(run)[1] for _ in range(size)]
    members = Members(size)
    for rank, objective in enumerate(objectives):
        objective._taps._team = Member(members, rank)
    with ThreadPoolExecutor(size) as threads:
        slopes = list(threads.map(lambda one: one.slope(images, state.labels, state.lr, one.ahead(5, 0)), objectives))
    wanted = alone.slope(images, state.labels, state.lr, alone.ahead(5, 0))
    for slope in slopes:
        assert torch.equal(slope.images, wanted.images)
        assert torch.equal(slope.loss, wanted.loss)


@pytest.mark.parametrize("objective", ["distribution", "cafe"])
def test_a_memory_that_is_too_small_is_gone_on_with(
    objective: str, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"distill__objective": objective, "distill__augment": "none"}
    _, whole, state, images = begun(make_run(**{**SMALL, **PRECISE, **changes}))
    wanted = whole.slope(images, state.labels, state.lr, whole.ahead(0, 0))
    logits, seen = Student.logits, []

    def crowded(student: Student, theta: Tensor, x: Tensor) -> Tensor:
        seen.append(len(x))
        if len(x) > 4:
            raise torch.OutOfMemoryError(FULL)
        return logits(student, theta, x)

    monkeypatch.setattr(Student, "logits", crowded)
    with logged() as lines:
        found = whole.slope(images, state.labels, state.lr, whole.ahead(0, 0))
    torch.testing.assert_close(found.images, wanted.images, rtol=1e-10, atol=1e-13)
    assert max(seen) > 4
    assert max(seen[-2:]) <= 4
    assert any("going on with" in line for line in lines)


@pytest.mark.parametrize("objective", ["distribution", "cafe"])
def test_batches_of_batch_norms_are_not_cut(make_run: Callable[..., Run], objective: str) -> None:
    run = make_run(**SMALL | {"distill__objective": objective}, network__arch="convnetbn", runtime__micro_batch=4)
    with pytest.raises(UserError, match=r"runtime.micro_batch 4 cuts batches of 90, .*; leave micro_batch out"):
        pipeline.distill(run)
