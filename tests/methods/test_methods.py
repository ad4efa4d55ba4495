"""Every method, and combinations: several outer iterations in float64 against an independent oracle."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from attcli import methods, registry, runtime
from attcli.errors import UserError
from attcli.methods import Method
from attcli.settings import Settings, resolve
from attcli.stages import distill, inputs, pipeline
from attcli.stages.run import Run
from attcli.store import dataset, history, synthetic
from tests.conftest import SMALL, settings_in
from tests.matching.oracle import deep, everything, far, tesla, unroll
from tests.stages.observed import logged

COMBINATIONS = ("att+datm", "att+ftd", "att+tesla", "tesla+datm", "ftd+datm+att+tesla", "att+pad")
PLAIN = [
    name
    for name in registry.names("method")
    if (methods.load(name).parameterisation, methods.load(name).storage) == ("pixels", "float32")
    and methods.load(name).objective == "trajectory"
]
"""Methods that learn pixels; how others' numbers become images is tested in tests/matching/test_coded_sets.py, other
objectives in tests/objectives."""
EXPERTS, EPOCHS, ITERATIONS = 3, 6, 4


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Walks:
    """Experts whose trajectories are random walks in float64."""

    def __init__(self, settings: Settings, about: dict[str, object]) -> None:
        self.about = about
        build = inputs.architecture(settings.network, about).build
        self._rows = []
        for expert in range(EXPERTS):
            theta = torch.cat([p.detach().reshape(-1) for p in runtime.seeded(build, 0, "walk", expert).parameters()])
            generator = torch.Generator().manual_seed(expert)
            steps = 0.03 * torch.randn((EPOCHS, len(theta)), generator=generator)
            self._rows.append(torch.cat([theta[None], theta + steps.cumsum(dim=0)]))

    def __len__(self) -> int:
        return EXPERTS

    def rows(self, expert: int, epochs: tuple[float, float]) -> np.ndarray:
        rows = self._rows[expert]
        return torch.stack(
            [torch.lerp(rows[int(t)], rows[min(int(t) + 1, EPOCHS)], t - int(t)) for t in epochs]
        ).numpy()


class Doubled:
    """A dataset whose network inputs are in float64."""

    def __init__(self, data: dataset.Dataset) -> None:
        self.about, self.labels, self.normaliser, self._data = data.about, data.labels, data.normaliser, data

    def inputs(self, split: str, chosen: Tensor) -> Tensor:
        return self._data.inputs(split, chosen).double()


@pytest.fixture
def data(tmp_path: Path) -> Doubled:
    """The digits."""
    run = Run(settings_in(tmp_path))
    pipeline.prepare(run)
    return Doubled(dataset.read(run.dataset))


class Outer:
    """The tool's outer loop."""

    def __init__(self, folder: Path, data: Doubled, **changes: object) -> None:
        chosen = {"network__width": 4, "distill__syn_steps": 4, "distill__lr_lr": 1e-3, "distill__lr_labels": 5.0}
        precise = {"distill__precision": "float64", "distill__storage": "float64"}
        if methods.load(str(changes.get("distill__method", "att"))).init == "ranked":
            np.save(folder / "scores.npy", torch.randn(len(data.labels["train"])).numpy())
            precise |= {"buffer__difficulty": str(folder / "scores.npy")}
        precise["distill__emphasis"] = "none"  # which has tests of its own
        self.settings = settings_in(folder, **{**chosen, **precise, "buffer__epochs": EPOCHS, **changes})
        self.loop, self.state = distill.begin(Run(self.settings), data, Walks(self.settings, data.about))
        self.student = self.loop.objective.step_functions.step_functions  # without what halves slices

    def iterate(self) -> history.Record:
        self.state, records = self.loop.iterate(self.state, self.loop.spans.ahead(self.state.iteration))
        return records[0]


class Oracle:
    """The outer loop as the papers describe it, with torch's own optimisers and the plain full unroll."""

    def __init__(self, outer: Outer) -> None:
        self.settings, self.outer = outer.settings.distill, outer
        state = outer.state
        self.images, self.lr = state.learned["images"].clone().requires_grad_(), state.lr.clone().requires_grad_()
        self.labels, self.ema = state.labels.clone(), state.learned["images"].clone()
        chosen = self.settings
        self.optimisers = [
            torch.optim.SGD([self.images], lr=chosen.lr_img, momentum=chosen.momentum_img),
            torch.optim.SGD([self.lr], lr=chosen.lr_lr, momentum=chosen.momentum_lr),
        ]
        if chosen.labels == "learned":
            self.labels.requires_grad_()
            learned = torch.optim.SGD([self.labels], lr=chosen.lr_labels, momentum=chosen.momentum_labels)
            self.optimisers.append(learned)

    def iterate(self, iteration: int) -> tuple[int, Tensor, bool]:
        """The matched step, the loss, and whether the update was made."""
        drawn, chosen = self.outer.loop.objective.ahead(iteration, 0), self.settings
        start, target = drawn.rows
        module, images, lr = self.outer.student.module, self.images.detach(), self.lr.detach()
        labels = self.labels.detach()
        if chosen.labels == "teacher":
            labels = self.outer.student.logits(target, images).detach()

        counts = {"all": everything, "deep": deep(chosen.left_out), "far": far(chosen.left_out)}[chosen.compare]

        def at(k: int, oracle=unroll, counts=counts) -> tuple[Tensor, list[Tensor]]:
            return oracle(module, start, target, images, labels, lr, drawn.plan, k, counts)

        k = chosen.syn_steps
        if chosen.select == "nearest":
            # The loss at every step tells the L2 distance, by which this test selects.
            measured = everything if chosen.compare == "far" else counts
            k = 1 + int(np.argmin([float(at(step, counts=measured)[0].detach()) for step in range(1, k + 1)]))
        loss, gradients = at(k, tesla if chosen.engine == "tesla" else unroll)
        loss = loss.detach()
        if chosen.max_loss is not None and loss > chosen.max_loss:
            return k, loss, False
        self.images.grad, self.lr.grad = gradients[:2]
        if chosen.labels == "learned":
            self.labels.grad = gradients[2]
        for optimiser in self.optimisers:
            optimiser.step()
        if chosen.labels == "teacher":
            self.labels = labels
        self.ema = chosen.ema_decay * self.ema + (1 - chosen.ema_decay) * self.images.detach()
        return k, loss, True


@pytest.mark.cpu
@pytest.mark.parametrize("name", [*PLAIN, *COMBINATIONS])
@pytest.mark.parametrize("labels", [None, "teacher"])
def test_outer_iterations_are_the_oracles(name: str, labels: str | None, tmp_path: Path, data: Doubled) -> None:
    changes = {"distill__labels": labels} if labels else {}
    method = methods.load(name)
    outer = Outer(
        tmp_path,
        data,
        distill__method=name,
        distill__select_metric="l2",
        distill__max_start_epoch=4,
        distill__current_max_start_epoch=1,
        distill__expansion_end=3,
        distill__max_loss=method.max_loss and 1.3,
        **changes,
    )
    assert outer.settings.distill.select == method.select
    assert outer.settings.buffer.trainer == method.trainer
    assert outer.settings.distill.engine == method.engine
    oracle = Oracle(outer)
    made = []
    for iteration in range(ITERATIONS):
        record = outer.iterate()
        step, loss, accepted = oracle.iterate(iteration)
        made.append(accepted)
        assert (record.step, record.accepted) == (step, accepted)
        assert record.loss == pytest.approx(float(loss), rel=1e-7)
    state = outer.state
    assert torch.allclose(state.learned["images"], oracle.images, rtol=0, atol=1e-9)
    assert torch.allclose(state.lr, oracle.lr, rtol=1e-9)
    assert torch.allclose(state.averages["images"], oracle.ema, rtol=0, atol=1e-9)
    assert torch.allclose(state.labels.double(), oracle.labels.double(), rtol=0, atol=1e-9)
    assert state.counts["rejected"] == made.count(False)


def test_a_rejected_update_moves_nothing(tmp_path: Path, data: Doubled) -> None:
    outer = Outer(tmp_path, data, distill__method="datm", distill__max_loss=1e-6)
    before = outer.state
    record = outer.iterate()
    after = outer.state
    assert record.accepted == 0
    assert after.counts["rejected"] == 1
    assert after.iteration == 1
    for name, x in before.learned.items():
        assert torch.equal(x, after.learned[name])
        assert all(torch.equal(x, after.moments[name][moment]) for moment, x in before.moments[name].items())
    assert torch.equal(before.averages["images"], after.averages["images"])


@pytest.mark.parametrize("method", ["datm+real-loss", "datm+dsa", "datm+ld"])
def test_only_a_matching_loss_is_rejected(method: str, make_run: Callable[..., Run]) -> None:
    run = make_run(distill__method=method, distill__max_loss=1e-9, distill__iterations=1, distill__syn_steps=1)
    pipeline.distill(run)
    assert synthetic.read(run.synthetic).about["counts"]["rejected"] == 0


def test_labels_move_at_the_pace_of_adam_where_adam_moves_images() -> None:
    for method in ("real-loss", "datm+real-loss"):
        distill = resolve({"distill.method": method}, ignore_params=True).settings.distill
        assert (distill.optimiser, distill.lr_labels, distill.momentum_labels) == ("adam", 0.01, 0.9)


def test_a_run_that_rejects_everything_is_told(tmp_path: Path, data: Doubled) -> None:
    outer = Outer(tmp_path, data, distill__method="datm", distill__max_loss=1e-6, distill__max_bad_updates=2)
    with logged() as lines:
        for _ in range(5):
            outer.iterate()
    assert [line.split(" were")[0] for line in lines if "rejected" in line] == [f"{n} updates in a row" for n in (2, 4)]


def test_a_loss_above_the_limit_rejects_before_anything_is_skipped(tmp_path: Path, data: Doubled) -> None:
    outer = Outer(tmp_path, data, distill__method="datm", distill__max_loss=1e-6, distill__lr_img=1e308)
    outer.iterate()
    assert (outer.state.counts["rejected"], outer.state.counts["skipped"]) == (1, 0)


@pytest.mark.parametrize("name", registry.names("method"))
def test_every_method_file_keeps_the_contract(name: str, tmp_path: Path) -> None:
    method = methods.load(name)
    settings = settings_in(tmp_path, distill__method=name)
    for setting, value in method.settings().items():
        section, key = setting.split(".")
        if setting not in SMALL:  # which flags say otherwise
            assert getattr(getattr(settings, section), key) == value


def test_combinations_choose_what_their_parts_change() -> None:
    both = methods.load("att+datm")
    assert both == replace(methods.load("datm"), select="nearest")
    assert methods.load("datm+att") == both
    assert methods.load("mtt+att") == methods.load("att")


def test_what_methods_choose_beside_the_axes_is_joined_too(monkeypatch: pytest.MonkeyPatch) -> None:
    real = methods._one
    other: Method = replace(real("mtt"), objective="real-loss", also={"distill.real_batch": 64})
    monkeypatch.setattr(methods, "_one", lambda name: other if name == "tesla" else real(name))
    joined = methods.load("datm+tesla")
    assert joined == replace(real("datm"), objective="real-loss", also={"distill.real_batch": 64})
    assert joined.settings()["distill.real_batch"] == 64
    third = replace(other, also={"distill.real_batch": 65})
    monkeypatch.setattr(methods, "_one", lambda name: {"tesla": other, "ftd": third}.get(name) or real(name))
    with pytest.raises(UserError, match=r"methods tesla and ftd contradict in distill.real_batch \(64, 65\)"):
        methods.load("tesla+ftd")


def test_methods_that_contradict_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = methods._one
    other: Method = replace(real("mtt"), window="fixed", labels="teacher")
    monkeypatch.setattr(methods, "_one", lambda name: other if name == "tesla" else real(name))
    with pytest.raises(UserError, match=r"methods datm and tesla contradict in labels \(learned, teacher\)"):
        methods.load("datm+tesla")
    with pytest.raises(UserError, match="unknown method 'dattm'; did you mean 'datm'"):
        methods.load("att+dattm")
