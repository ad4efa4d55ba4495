"""A student's own learning rate for each step: kept, resumed, started from, and made again by the protocol replay."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

import attcli
from attcli.errors import UserError
from attcli.interchange import packing
from attcli.matching import balanced
from attcli.objectives import Slope, real_loss
from attcli.objectives.real_images import facts
from attcli.ranks import ALONE
from attcli.runtime import seeded
from attcli.scoring.protocol import NAMED
from attcli.scoring.training import FIXED_STUDENT
from attcli.stages import distill, identity, inputs, pipeline
from attcli.stages.of_a_set import own_protocol, protocol_for, rates_for
from attcli.stages.run import Run
from attcli.stages.spans import Spans
from attcli.store import artefact, experts, states, synthetic
from tests.objectives.cases import PRECISE, begun

CHANGES: dict[str, object] = {
    "distill__method": "dd",
    "distill__ipc": 2,
    "distill__batch_syn": 10,
    "distill__syn_steps": 3,
    "distill__iterations": 4,
    "distill__real_batch": 100,
    "distill__lr_lr": 0.1,
    "distill__lr_init": 0.3,
    "distill__augment": "none",
    "evaluate__repeats": 1,
    "evaluate__baselines": (),
}


def replayed(module: torch.nn.Module, images: Tensor, rates: Tensor) -> dict[str, Tensor]:
    """The parameters after steps on batches of one image of each class, which take turns."""
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    for step, rate in enumerate(rates.tolist()):
        x = images.view(10, 2, *images.shape[1:])[:, step % 2]
        loss = torch.nn.functional.cross_entropy(functional_call(module, parameters, (x,)), torch.arange(10))
        slopes = torch.autograd.grad(loss, list(parameters.values()))
        moved = zip(parameters.items(), slopes, strict=True)
        parameters = {name: (p - rate * g).detach().requires_grad_() for (name, p), g in moved}
    return parameters


def test_rates_are_kept_and_made_again(make_run: Callable[..., Run]) -> None:
    run = make_run(**CHANGES, distill__student_start="fixed", evaluate__protocol="replay")
    scores = pipeline.evaluate(run)
    kept = synthetic.read(run.synthetic)
    assert kept.rates is not None
    assert kept.rates.shape == (3,)
    assert len(set(kept.rates.tolist())) == 3
    assert kept.lr == pytest.approx(float(kept.rates.mean()))
    header = artefact.header(run.synthetic, synthetic.KIND, synthetic.MAKER)
    lost = "the learning rate of each step: their mean stands for them"
    assert lost in packing.of_the_other(packing.whole_in(run.synthetic), "synthetic")
    assert kept.kept_bytes["synthetic"] == 20 * 64 * 4 + 4 + 3 * 4

    data = inputs.read_dataset(run)
    build = inputs.architecture(run.settings.network, header.about).build
    module = seeded(build, run.settings.seed_of("distill"), FIXED_STUDENT)
    parameters = replayed(module, kept.variants["synthetic"], kept.rates)
    test = data.inputs("test", torch.arange(len(data.labels["test"])))
    answers = functional_call(module, parameters, (test,)).argmax(dim=1)
    wanted = 100 * float((answers == data.labels["test"]).double().mean())
    assert scores["scores"]["convnet"]["synthetic"]["mean"] == pytest.approx(wanted)
    assert scores["protocol"]["rates"] == tuple(kept.rates.tolist())
    assert attcli.load(run.synthetic).score(module, run.dataset) < wanted  # as it begins
    assert attcli.load(run.synthetic).protocol.rates == tuple(kept.rates.tolist())


def test_a_distillation_that_is_resumed_or_started_from_goes_on_with_its_rates(make_run: Callable[..., Run]) -> None:
    at_once = make_run(**CHANGES)
    pipeline.distill(at_once)
    apart = at_once.settings.runtime.artifacts.parent / "apart"
    pipeline.distill(make_run(apart, **{**CHANGES, "distill__iterations": 2}))
    resumed = make_run(apart, **CHANGES)
    pipeline.distill(resumed)
    first, second = synthetic.read(at_once.synthetic), synthetic.read(resumed.synthetic)
    assert torch.equal(first.variants["synthetic"], second.variants["synthetic"])
    assert first.rates is not None
    assert torch.equal(first.rates, second.rates)
    data = inputs.read_dataset(at_once)
    for path in (at_once.synthetic, states.snapshots(at_once.snapshots)[-1]):
        later = make_run(apart / "later", **CHANGES, distill__start_from=path)
        _, state = distill.begin(later, data, experts.Experts([]))
        assert torch.allclose(state.rates, first.rates)
    one = make_run(apart / "one", **{**CHANGES, "distill__student_rates": "one"}, distill__start_from=path)
    _, state = distill.begin(one, data, experts.Experts([]))
    assert float(state.rates) == pytest.approx(first.lr)


def test_real_images_are_trained_on_once_where_steps_have_rates_of_their_own(make_run: Callable[..., Run]) -> None:
    settings = make_run(**CHANGES, evaluate__random_lrs=(0.01, 0.03)).settings.evaluate
    assert rates_for(settings, replace(NAMED["replay"], rates=(0.1, 0.2)), 0.15) == (0.15, ())
    assert rates_for(settings, NAMED["exact"], 0.15) == (0.15, (0.01, 0.03))


def test_other_sets_have_no_steps_to_make_again(make_run: Callable[..., Run]) -> None:
    run = make_run(**{**CHANGES, "distill__student_batches": "any"}, evaluate__protocol="replay")
    with pytest.raises(UserError, match="not the same each time"):
        pipeline.evaluate(run)


def test_a_flag_that_would_change_the_steps_made_again_is_refused(make_run: Callable[..., Run]) -> None:
    run = make_run(**{**CHANGES, "distill__iterations": 1}, evaluate__protocol="replay")
    pipeline.distill(run)
    kept = synthetic.read(run.synthetic)
    asked = replace(run, origin={"evaluate.protocol": "flag", "evaluate.lr": "flag", "evaluate.batch": "flag"})
    with pytest.raises(UserError, match=r"which evaluate\.lr, evaluate\.batch can't change; leave it out"):
        protocol_for(asked, kept)
    assert protocol_for(replace(run, origin={"evaluate.batch": "params.yaml"}), kept).name == "replay"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"distill__batch_syn": 15}, "batches of 15 images can't hold equally many of each of the 10 classes; set"),
        ({"distill__steps_before": 1}, "set distill.steps_before=0"),
        ({"distill__labels": "teacher"}, "real-loss matches none; set distill.labels to learned or hard"),
        ({"distill__student_lr": 0.01}, "so distill.student_lr has no place; leave one of them out"),
    ],
)
def test_what_does_not_go_together_is_refused(
    changes: dict[str, object], problem: str, make_run: Callable[..., Run]
) -> None:
    with pytest.raises(UserError, match=problem):
        make_run(**{**CHANGES, **changes})


@pytest.mark.parametrize("wrong", [[0.1, -0.1, 0.1], [0.1, float("nan")], [], [[0.1]], 0.1])
def test_rates_that_can_not_be_are_refused(wrong: object, make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run(**{**CHANGES, "distill__iterations": 1, "distill__syn_steps": 1, "distill__real_batch": 10})
    pipeline.distill(run)
    header, arrays = artefact.read(run.synthetic, synthetic.KIND, synthetic.MAKER)
    about = artefact.Header(header.kind, header.fingerprint, header.settings, header.about, header.versions)
    artefact.write(tmp_path / "wrong.h5", about, {**arrays, "rates": np.asarray(wrong, np.float32)})
    with pytest.raises(UserError, match="learning rates of its steps are not positive numbers"):
        synthetic.read(tmp_path / "wrong.h5")


def test_the_steps_made_again_are_those_of_the_students(make_run: Callable[..., Run]) -> None:
    own = {"distill__student_rates": "one", "distill__student_lr": 0.03, "distill__augment": "flip"}
    run = make_run(**{**CHANGES, **own, "distill__iterations": 1, "evaluate__augment": "crop"})
    pipeline.distill(run)
    kept = synthetic.read(run.synthetic)
    steps = own_protocol(kept, "replay")
    assert steps.rates == (0.03,) * run.settings.distill.syn_steps
    assert (steps.augment, own_protocol(kept, "exact").augment) == ("flip", "crop")
    before = replace(kept, settings={"distill": {**kept.settings["distill"], "steps_before": 2}})
    with pytest.raises(UserError, match=r"made up to 2 more before them \(distill\.steps_before\)"):
        own_protocol(before, "replay")


@pytest.mark.parametrize(
    "wrong", [{"syn_steps": 10**12}, {"batch_syn": "ten"}, {"batch_syn": 3}, {"augment": "x"}, {"student_lr": -1.0}]
)
def test_settings_that_can_not_be_are_not_replayed(wrong: dict[str, object], make_run: Callable[..., Run]) -> None:
    run = make_run(**{**CHANGES, "distill__iterations": 1, "distill__syn_steps": 1, "distill__real_batch": 10})
    pipeline.distill(run)
    kept = synthetic.read(run.synthetic)
    hostile = replace(kept, settings={"distill": {**kept.settings["distill"], **wrong}})
    with pytest.raises(UserError, match=r"what can't be|not the same each time"):
        own_protocol(hostile, "replay")


class Constant:
    """An objective whose gradients are 1."""

    step_functions = None

    def ahead(self, iteration: int, span: int) -> None:
        return None

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: None, memory: object = None) -> Slope:
        return Slope(torch.zeros(()), torch.ones_like(images), None, torch.zeros_like(lr), labels, facts(1))


def test_no_step_has_a_learning_rate_below_the_smallest(make_run: Callable[..., Run]) -> None:
    run = make_run(**{**CHANGES, "distill__lr_lr": 5.0, "distill__min_lr": 0.005, "distill__iterations": 3})
    pipeline.distill(run)
    found = synthetic.read(run.synthetic)
    assert found.about["counts"]["lr_projected"] > 0
    assert found.rates is not None
    assert float(found.rates.min()) == pytest.approx(0.005, rel=1e-5)
    assert found.lr == pytest.approx(float(found.rates.mean()), rel=1e-6)


@pytest.mark.cpu
def test_learning_rates_are_halved(make_run: Callable[..., Run]) -> None:
    sgd = {"distill__optimiser": "sgd", "distill__momentum_img": 0.0, "distill__halve_every": 2}
    run = make_run(**CHANGES, **sgd)
    pipeline.prepare(run)
    loop, state = distill.begin(run, inputs.read_dataset(run), experts.Experts([]))
    loop = replace(loop, objective=Constant(), spans=Spans(Constant(), 1, ALONE))
    moved = []
    for _ in range(5):
        before = state.learned["images"]
        state, _ = loop.iterate(state, loop.spans.ahead(state.iteration))
        moved.append(float((before - state.learned["images"]).mean()))
    assert moved == pytest.approx([1, 1, 0.5, 0.5, 0.25], rel=1e-4)


def test_learned_labels_start_without_experts(make_run: Callable[..., Run]) -> None:
    run = make_run(**CHANGES, distill__labels="learned", distill__label_init="classes")
    assert not run.settings.reads_experts
    pipeline.prepare(run)
    _, state = distill.begin(run, inputs.read_dataset(run), experts.Experts([]))
    p = state.labels.softmax(dim=1)
    assert torch.allclose(p[torch.arange(20), torch.arange(10).repeat_interleave(2)], torch.tensor(0.9))
    assert torch.allclose(p.min(dim=1).values, torch.tensor(0.1 / 9))


def test_gradients_are_no_longer_than_their_average_allows(make_run: Callable[..., Run]) -> None:
    run = make_run(**CHANGES, distill__clip=2.0)
    pipeline.prepare(run)
    loop, _ = distill.begin(run, inputs.read_dataset(run), experts.Experts([]))
    memory, lengths = {}, []
    for length in (0.0, 1.0, 1.5, 9.0, 3.0):  # the averages: 0, 1, 1.05, 1.845 and 1.9605
        gradient, memory = loop.objective._clipped(torch.tensor([0.6, 0.8]) * length, memory)
        lengths.append(float(gradient.norm()))
    assert lengths == pytest.approx([0, 1, 1.5, 3.69, 3])


@pytest.fixture
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_float64")
def test_cyclic_batches_go_on_where_the_steps_before_ended(make_run: Callable[..., Run]) -> None:
    changes: dict[str, object] = {
        "distill__method": "real-loss",
        "distill__ipc": 2,
        "distill__batch_syn": 10,
        "distill__real_batch": 37,
        "distill__student_batches": "cyclic",
        "distill__steps_before": 3,
        "distill__augment": "none",
        "distill__syn_steps": 2,
    }
    _, objective, _, _ = begun(make_run(**{**changes, **PRECISE}))
    turns = [sorted(x.tolist()) for x in balanced.cyclic(20, 10, 10, 2, "none", torch.Generator()).indices]
    counts = set()
    for iteration in range(12):
        drawn = objective.ahead(iteration, 0)
        steps = len(drawn.before.indices)
        counts.add(steps)
        met = [sorted(x.tolist()) for x in (*drawn.before.indices, *drawn.window.indices)]
        assert met == [turns[k % 2] for k in range(steps + 2)]
    assert {1, 2} < counts


def test_another_version_of_an_objective_is_another_work(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, clipped = (make_run(distill__method="real-loss", distill__clip=clip).settings for clip in (None, 3.0))
    before = [identity.distill(settings, "d", "")[0] for settings in (plain, clipped)]
    old = real_loss.version
    monkeypatch.setattr(real_loss, "version", lambda distill: 2 * old(distill))
    after = [identity.distill(settings, "d", "")[0] for settings in (plain, clipped)]
    assert after[0] == before[0]
    assert after[1] != before[1]
