"""The loss on real images: its gradient against the plain graph in float64, what it starts from, and what it needs."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from attcli import augment
from attcli.errors import UserError
from attcli.matching.batches import Plan
from attcli.matching.halving import Halving
from attcli.objectives.real_images import RealImages
from attcli.ranks import Team
from attcli.stages import continued, distill, identity, inputs, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, experts, history, states, synthetic
from tests.conftest import Cli
from tests.data.pictures import classes
from tests.methods.test_methods import Doubled
from tests.stages.observed import logged

CHANGES: dict[str, object] = {
    "distill__objective": "real-loss",
    "distill__optimiser": "adam",
    "distill__lr_img": 0.01,
    "distill__steps_before": 2,
    "distill__real_batch": 37,
    "distill__batch_syn": 7,
}
PRECISE: dict[str, object] = {"distill__precision": "float64", "distill__storage": "float64", "network__width": 4}


@pytest.fixture
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Twice(Doubled):
    """A dataset whose network inputs are in float64, held or by their indices."""

    def network_inputs(self, split: str, device: torch.device, dtype: torch.dtype) -> Tensor:
        return self.inputs(split, torch.arange(len(self.labels[split]))).to(device, dtype)


Gradients = list[Tensor]


def trained(
    loss: Callable[..., Tensor],
    theta: Tensor,
    images: Tensor,
    p: Tensor,
    lr: Tensor,
    plan: Plan,
    adam: bool,
    gradients: Gradients,
) -> Tensor:
    """The parameters after the plan's steps, with their graph; `gradients` are those of all steps so far."""
    for step in range(len(plan.indices)):
        index = plan.indices[step]
        x = augment.apply(plan.augmentations[step], images[index])
        gradients += torch.autograd.grad(loss(theta, x, p[index], plan.weights[step]), theta, create_graph=True)
        direction, t = gradients[-1], len(gradients)
        if adam:
            first = sum(0.1 * 0.9 ** (t - 1 - i) * g for i, g in enumerate(gradients)) / (1 - 0.9**t)
            second = sum(0.001 * 0.999 ** (t - 1 - i) * g**2 for i, g in enumerate(gradients)) / (1 - 0.999**t)
            direction = first / (second**0.5 + 1e-8)
        theta = theta - (lr[step] if lr.dim() else lr) * direction
    return theta


BY_ADAM = {"student_optimiser": "adam", "student_batches": "balanced", "real_augment": "flip_rotate"}
CYCLIC = {"student_batches": "cyclic", "student_start": "fixed", "batch_syn": 10, "steps_before": 0}
OWN_RATES = {**CYCLIC, "student_rates": "each"}
GIVEN = {**BY_ADAM, "student_lr": 0.003}
"""Students whose learning rate is not the set's."""


@pytest.mark.parametrize("size", [1, 2])
def test_no_process_of_a_team_halves_its_slices_of_real_images_alone(size: int, make_run: Callable[..., Run]) -> None:
    run = make_run(**CHANGES)
    pipeline.prepare(run)
    loop, _ = distill.begin(run, inputs.read_dataset(run), experts.Experts([]))
    of_team = RealImages(replace(loop.objective._inputs, team=Team(size=size)))
    assert isinstance(of_team._step_functions, Halving) == (size == 1)


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("labels", "changes"),
    [("hard", {}), ("learned", {}), ("learned", BY_ADAM), ("hard", CYCLIC), ("hard", OWN_RATES), ("hard", GIVEN)],
)
@pytest.mark.usefixtures("_float64")
def test_its_gradient_is_that_of_the_plain_graph(
    labels: str, changes: dict[str, object], make_run: Callable[..., Run]
) -> None:
    run = make_run(**{**CHANGES, **PRECISE, **{f"distill__{name}": value for name, value in changes.items()}})
    pipeline.prepare(run)
    data = Twice(inputs.read_dataset(run))
    distilled = torch.randn(10, 10)
    loop, state = distill.begin(run, data, experts.Experts([]))
    objective = loop.objective
    if labels == "learned":
        objective._settings = objective._settings.model_copy(update={"labels": "learned"})
    drawn = objective.ahead(3, 0)
    images = loop.coding.images(state.coded(), state.scales)
    logits = distilled if labels == "learned" else state.labels
    slope = objective.slope(images, logits, state.rates, drawn)

    module = objective.step_functions.step_functions.module
    names, shapes = zip(*((name, x.shape) for name, x in module.named_parameters()), strict=True)

    def outputs(theta: Tensor, x: Tensor) -> Tensor:
        parts = theta.split([shape.numel() for shape in shapes])
        parameters = {n: part.view(s) for n, part, s in zip(names, parts, shapes, strict=True)}
        return functional_call(module, parameters, (x,))

    def loss(theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        return -(w * (p * outputs(theta, x).log_softmax(dim=1)).sum(dim=1)).sum()

    images, lr = images.detach().requires_grad_(), state.rates.detach().requires_grad_()
    given = run.settings.distill.student_lr
    rate = lr if given is None else lr * 0 + given
    soft = logits.detach().requires_grad_() if labels == "learned" else None
    p = torch.nn.functional.one_hot(state.labels, 10).double() if soft is None else soft.softmax(dim=1)
    start = drawn.start.double().requires_grad_()
    adam, gradients = run.settings.distill.student_optimiser == "adam", []
    before = trained(loss, start, images, p, rate, drawn.before, adam, gradients).detach().requires_grad_()
    gradients[:] = [g.detach() for g in gradients]
    theta = trained(loss, before, images, p, rate, drawn.window, adam, gradients)
    x, y = objective._real.batch(drawn.tested, images.detach())
    assert bool(drawn.tested.augmentation.operation) == adam
    total = torch.nn.functional.cross_entropy(outputs(theta, x), y)
    wanted = torch.autograd.grad(total, [images, lr, *([soft] if soft is not None else [])])

    assert torch.allclose(slope.loss, total, rtol=1e-9)
    assert torch.allclose(slope.images, wanted[0], rtol=0, atol=1e-8 * float(wanted[0].abs().max()))
    assert torch.allclose(slope.lr, wanted[1], rtol=1e-8)
    if soft is not None:
        assert slope.logits is not None
        assert torch.allclose(slope.logits, wanted[2], rtol=0, atol=1e-8 * float(wanted[2].abs().max()))
    counts = y.bincount(minlength=10)
    assert int(counts.max() - counts.min()) <= 1  # as many of each class as 37 images allow
    assert len(y) == 37


def test_it_needs_no_experts_and_its_loss_falls(make_run: Callable[..., Run]) -> None:
    faster = {"distill__lr_img": 0.1, "distill__lr_init": 0.3, "distill__real_batch": 100, "distill__batch_syn": None}
    run = make_run(**{**CHANGES, "distill__iterations": 25, "distill__syn_steps": 15, **faster})
    pipeline.distill(run)
    assert not list(run.experts.glob("*.h5"))
    losses = [float(line.split(",")[4]) for line in run.history.with_suffix(".csv").read_text().splitlines()[1:]]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    header = artefact.header(run.synthetic, synthetic.KIND, synthetic.MAKER)
    assert not {"experts", "select", "engine", "window"} & header.settings["distill"].keys()  # which it does not read


def test_students_may_start_at_experts(make_run: Callable[..., Run]) -> None:
    run = make_run(**CHANGES, distill__student_start="expert")
    pipeline.distill(run)
    data = inputs.read_dataset(run)
    trajectories = inputs.open_experts(run, data)
    loop, _ = distill.begin(run, data, trajectories)
    drawn = [loop.objective.ahead(i, 0) for i in range(12)]
    assert {d.epoch for d in drawn} == {0, 1}
    for d in drawn:
        assert torch.equal(d.start, torch.from_numpy(trajectories.rows(d.expert, (d.epoch, d.epoch))[0]))
    trajectories.close()


@pytest.mark.cpu
@pytest.mark.parametrize("source", ["synthetic.h5", "snapshots"])
@pytest.mark.parametrize("storage", ["float32", "uint8", "codes"])
def test_a_distillation_starts_from_a_finished_set(make_run: Callable[..., Run], source: str, storage: str) -> None:
    made: dict[str, object] = {
        "distill__storage": storage,
        "distill__labels": "learned",
        "distill__label_storage": "uint8" if storage == "uint8" else "float32",
    }
    first = make_run(**made)
    pipeline.distill(first)
    path = first.synthetic if source == "synthetic.h5" else states.snapshots(first.snapshots)[-1]
    old = synthetic.read(path, kind=None)
    second = make_run(first.settings.runtime.artifacts.parent / "second", **made, **CHANGES, distill__start_from=path)
    pipeline.prepare(second)
    data = inputs.read_dataset(second)
    _, state = distill.begin(second, data, experts.Experts([]))
    loop, _ = distill.begin(second, data, experts.Experts([]), state)
    images = loop.coding.images(state.coded(), state.scales)
    assert torch.equal(images, old.variants["synthetic"]), "kept by the scales of the file"
    assert torch.equal(states.labels_as_kept(loop.coding, state), old.labels)
    assert float(state.lr) == pytest.approx(old.lr)
    fingerprint = identity.distill(second.settings, data.sha256, "")[0]
    settings = second.settings
    other = settings.model_copy(update={"distill": settings.distill.model_copy(update={"start_from": None})})
    assert identity.distill(other, data.sha256, "")[0] != fingerprint


@pytest.mark.cpu
@pytest.mark.parametrize("kept", ["pixels", "multiformation"])
def test_it_starts_from_a_set_of_another_machine(
    kept: str, make_run: Callable[..., Run], tmp_path: Path, move_to_another_machine: Callable[[], None]
) -> None:
    made: dict[str, object] = {"prepare__normalise": "zca", "distill__parameterisation": kept}
    first = make_run(**made)
    pipeline.distill(first)
    alone = tmp_path / "alone" / "synthetic.h5"
    alone.parent.mkdir()
    alone.write_bytes(first.synthetic.read_bytes())
    move_to_another_machine()
    second = make_run(tmp_path / "there", **made, **CHANGES, distill__start_from=alone)
    with logged() as lines:
        pipeline.distill(second)
    assert [line for line in lines if "differs from its own by rounding" in line]
    normalisers = [synthetic.header(path).about["normaliser"]["sha256"] for path in (alone, second.synthetic)]
    assert normalisers[0] != normalisers[1]


def test_a_set_of_other_images_of_ones_own_is_refused(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Their settings are the same, so that only their normaliser tells them apart."""
    made: dict[str, object] = {"prepare__dataset": "folder", "prepare__validation": 0, "buffer__batch": 4}
    for name, names in (("one", ("cat", "dog")), ("other", ("dog", "cat"))):
        classes(tmp_path / name, names, count=20 if name == "one" else 25)
    first = make_run(tmp_path / "first", **made, runtime__data_dir=str(tmp_path / "one"))
    pipeline.distill(first)
    second = {**made, **CHANGES, "distill__real_batch": 4, "distill__batch_syn": 2}
    with pytest.raises(UserError, match="normalised otherwise"):
        pipeline.distill(
            make_run(
                tmp_path / "second",
                **second,
                runtime__data_dir=str(tmp_path / "other"),
                distill__start_from=first.synthetic,
            )
        )


def test_a_set_that_changes_while_it_is_read_is_refused(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, longer = make_run(), make_run(tmp_path / "longer", distill__iterations=7)
    pipeline.distill(first)
    pipeline.distill(longer)
    second = make_run(tmp_path / "second", distill__start_from=first.synthetic, **CHANGES)
    begin = continued.begin

    def changed(*args: Any) -> states.State:
        shutil.copy(longer.synthetic, first.synthetic)
        return begin(*args)

    monkeypatch.setattr(continued, "begin", changed)
    with pytest.raises(UserError, match="was changed while it was read"):
        pipeline.distill(second)
    assert not second.synthetic.exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"distill__storage": "uint8"},
            "is made with distill.storage float32, and uint8 is asked for; set distill.storage=float32 ",
        ),
        ({"distill__labels": "learned"}, "has class numbers as labels, and distill.labels learned is asked for"),
        ({"distill__ipc": 2}, "has images per class 1, and 2 is asked for"),
        ({"prepare__validation": 50}, "normalised otherwise"),
    ],
)
def test_a_set_of_another_kind_is_refused(
    make_run: Callable[..., Run], changes: dict[str, object], problem: str, tmp_path: Path
) -> None:
    first = make_run()
    pipeline.distill(first)
    with pytest.raises(UserError, match=problem):
        pipeline.distill(make_run(tmp_path / "second", distill__start_from=first.synthetic, **CHANGES, **changes))


KEPT: dict[str, object] = {
    "distill__parameterisation": "multiformation",
    "distill__storage": "codes",
    "distill__labels": "learned",
    "distill__label_storage": "uint8",
}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"distill__code_bits": 3},
            "distill.code_bits 4, and 3 is asked for; set distill.code_bits=4 ",
        ),
        (
            {"distill__label_storage": "float32"},
            "distill.label_storage uint8, and float32 is asked for; set distill.label_storage=uint8",
        ),
        ({"distill__labels": "hard"}, "has learned labels, and distill.labels hard is asked for"),
    ],
)
def test_a_set_that_is_kept_otherwise_is_refused_with_what_differs(
    make_run: Callable[..., Run], changes: dict[str, object], problem: str, tmp_path: Path
) -> None:
    first = make_run(**KEPT)
    pipeline.distill(first)
    again = {**KEPT, **changes, "distill__start_from": first.synthetic}
    with pytest.raises(UserError, match=re.escape(problem)):
        pipeline.distill(make_run(tmp_path / "second", **again))


def test_labels_in_float32_are_told_apart_from_those_in_fewer_bytes(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    first = make_run(distill__labels="learned")
    pipeline.distill(first)
    second = {"distill__labels": "learned", "distill__label_storage": "uint8", "distill__start_from": first.synthetic}
    with pytest.raises(UserError, match=r"distill.label_storage float32, and .* set distill.label_storage=float32"):
        pipeline.distill(make_run(tmp_path / "second", **second))


def test_scales_may_be_fitted_anew_at_other_times(make_run: Callable[..., Run], tmp_path: Path) -> None:
    first = make_run(**KEPT)
    pipeline.distill(first)
    at_other_times = {"distill__scales_every": 2, "distill__scales_until": 4}
    second = make_run(tmp_path / "second", **KEPT, **at_other_times, distill__start_from=first.synthetic)
    pipeline.distill(second)
    assert synthetic.read(second.synthetic).size == synthetic.read(first.synthetic).size


def test_a_set_that_does_not_fit_is_told_before_experts_are_trained(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    first = make_run()
    pipeline.distill(first)
    second = make_run(tmp_path / "second", distill__ipc=2, distill__start_from=first.synthetic)
    with pytest.raises(UserError, match=r"has images per class 1, and 2 is asked for"):
        pipeline.distill(second)
    assert not second.experts.exists()
    (tmp_path / "text.h5").write_text("no set")
    third = make_run(tmp_path / "third", distill__start_from=tmp_path / "text.h5")
    with pytest.raises(UserError, match=r"text\.h5"):
        pipeline.distill(third)
    assert not third.experts.exists()


def test_a_set_is_not_replaced_by_what_starts_from_it(make_run: Callable[..., Run]) -> None:
    first = make_run()
    pipeline.distill(first)
    for path in (first.synthetic, states.snapshots(first.snapshots)[0]):
        before = path.read_bytes()
        again = make_run(distill__start_from=path, distill__lr_img=3)
        with pytest.raises(UserError, match="is among the results that this distillation would replace"):
            pipeline.distill(replace(again, force=True))
        assert path.read_bytes() == before


def test_a_set_to_start_from_asks_no_experts_for_labels(make_run: Callable[..., Run], tmp_path: Path) -> None:
    asked: dict[str, object] = {**CHANGES, "distill__labels": "learned", "distill__label_init": "experts"}
    assert make_run(**asked).settings.reads_experts
    assert not make_run(**asked, distill__start_from=tmp_path / "set.h5").settings.reads_experts


def test_a_set_that_is_missing_is_refused_before_any_work(cli: Cli) -> None:
    said = cli("distill", "--dataset", "digits", "--from", "none.h5", code=2)
    assert "none.h5 is missing; name a file that exists" in said


def test_what_is_told_of_it_fits_an_objective_without_a_matched_step(make_run: Callable[..., Run]) -> None:
    from attcli.report import gather, page, plots
    from attcli.stages import diagnose

    run = make_run(**CHANGES)
    pipeline.distill(run)
    folder = run.settings.runtime.artifacts
    told = diagnose.run(run.history, folder / "diagnosis", None, [1], 2)
    assert [file.name for file in told.files] == ["loss.csv", "loss.png", "loss.svg"]
    _, arrays = artefact.read(run.history, history.KIND, history.MAKER)
    first, last = arrays["loss"][:2].mean(), arrays["loss"][-2:].mean()
    assert told.sentences[0] == (
        f"the loss on real images was {first:.4f} on average in the first 2 iterations and {last:.4f} in the last 2"
    )
    with pytest.raises(UserError, match="holds no distances to experts"):
        diagnose.read(run.history, None, [1], 2)

    facts = gather.facts(folder, [run.settings.runtime.work_dir])
    drawn = plots.of_run(facts)
    assert list(drawn) == ["loss", "lr"]
    assert drawn["loss"].title == "Loss on real images"
    assert [sentence for sentence in facts.missing if "scores" not in sentence] == []
    text = page.of_run(facts, drawn).partition("<h2>Settings")[0]
    assert not re.search("matching loss|Step that was matched|expert", text)

    assert facts.history is not None
    constant = facts.history.lr.model_copy(update={name: [0.01] * 6 for name in ("low", "mean", "high")})
    still = facts.model_copy(update={"history": facts.history.model_copy(update={"lr": constant})})
    assert list(plots.of_run(still)) == ["loss"]
    own = facts.model_copy(update={"about": facts.about.model_copy(update={"dataset": "folder"})})
    assert "Own images</bdi>, distilled by" in page.of_run(own, {})


def test_the_plan_has_no_experts(make_run: Callable[..., Run]) -> None:
    from attcli.stages import forecast

    run = make_run(**CHANGES)
    assert "buffer" not in forecast.forecast(run, forecast.stages_of(run, "distill"))
    assert "buffer" in forecast.forecast(replace(run, settings=make_run().settings), ("buffer", "distill"))


def test_estimates_count_real_images_steps_before_and_moments(make_run: Callable[..., Run]) -> None:
    from attcli.stages import cost

    def of(**changes: object) -> cost.Cost:
        few = {"distill__steps_before": 0, "distill__real_batch": 4, "distill__batch_syn": 10}
        return cost.distill(make_run(**{**CHANGES, **few, **changes}).settings, 8)

    least, steps = of(), 10 * 5 + 1  # images whose two derivatives are taken, and a quarter of the real ones
    assert of(distill__real_batch=404).operations / least.operations == pytest.approx((steps + 100) / steps)
    assert of(distill__steps_before=8).operations / least.operations == pytest.approx((steps + 10) / steps)
    assert of(distill__student_optimiser="adam").memory > least.memory
