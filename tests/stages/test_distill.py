"""What distillation begins with, does in an iteration, and leaves."""

import itertools
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from attcli import coding
from attcli.errors import DivergedError
from attcli.matching import engine
from attcli.matching.student import Student
from attcli.objectives.trajectory import TrajectoryMatching
from attcli.parameterisations import Space
from attcli.stages import distill, initial, inputs, interrupt, kept, outcome, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, dataset, experts, history, states, synthetic
from tests.stages.observed import contents, logged, states_of

MakeRun = Callable[..., Run]


def test_noise_initialisation_and_sub_batches(make_run: MakeRun) -> None:
    run = make_run(distill__init="noise", distill__ipc=2, distill__batch_syn=7)
    pipeline.distill(run)
    found = synthetic.read(run.synthetic)
    assert found.variants["synthetic"].shape == (20, 1, 8, 8)
    assert found.labels.tolist() == sorted(found.labels.tolist())


def begun(run: Run, data: dataset.Dataset) -> states.State:
    """What a distillation from real images with hard labels starts from; no expert is asked."""
    space = Space(data.about["channels"], data.about["resolution"], data.normaliser)
    decoder, device = coding.load({}, space), torch.device("cpu")
    return initial.begin(run.settings, data, None, None, decoder, device, lambda: pytest.fail("nobody asked for it"))


def test_real_initialisation_is_class_by_class(make_run: MakeRun) -> None:
    run = make_run(distill__ipc=3)
    pipeline.prepare(run)
    data = dataset.read(run.dataset)
    state = begun(run, data)
    train = data.inputs("train")
    for image, label in zip(state.learned["images"], state.labels, strict=True):
        matches = (train == image).flatten(1).all(dim=1)
        assert data.labels["train"][matches].tolist() == [int(label)]


def test_the_learning_rate_is_kept_above_its_minimum_and_counted(make_run: MakeRun) -> None:
    run = make_run(distill__lr_lr=1e6, distill__min_lr=0.005)
    pipeline.distill(run)
    found = synthetic.read(run.synthetic)
    assert found.about["counts"]["lr_projected"] > 0
    assert found.lr >= 0.005 - 1e-8


def test_updates_that_are_not_finite_touch_nothing_and_end_the_run(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(distill__max_bad_updates=3, distill__iterations=20)
    pipeline.distill(make_run(distill__iterations=2))
    before = synthetic.read(run.synthetic)
    real = engine.load("adjoint")

    def broken(student, start, target, batches, lr, select, *how):
        match = real(student, start, target, batches, lr, select, *how)
        batches.gradients()[0][0] = float("nan")
        return match

    monkeypatch.setattr(engine, "load", lambda name: broken)
    with pytest.raises(
        DivergedError, match=r"3 updates in a row were not finite, the last at iteration 4; lower distill"
    ):
        pipeline.distill(run)
    after = synthetic.read(run.synthetic)
    assert after.about["counts"] == {
        "lr_projected": 0,
        "skipped": 3,
        "skipped_in_a_row": 3,
        "rejected": 0,
        "rejected_in_a_row": 0,
    }
    assert after.lr == before.lr
    for kind in before.variants:
        assert torch.equal(after.variants[kind], before.variants[kind])
    monkeypatch.undo()
    pipeline.distill(make_run(distill__iterations=8))
    with h5py.File(run.history) as file:
        assert file["iteration"][()].tolist() == list(range(8))
        assert file["accepted"][()].tolist() == [1, 1, 0, 0, 0, 1, 1, 1]


def test_history_and_ema_tell_what_happened(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    with h5py.File(run.history) as file:
        steps, l1, l2, loss = (file[name][()] for name in ("step", "l1", "l2", "loss"))
        assert l1.shape == l2.shape == (6, 5)
        assert np.array_equal(steps, l1.argmin(axis=1) + 1)
        assert (file["seconds"][()] > 0).all()
    lines = run.history.with_suffix(".csv").read_text().splitlines()
    assert lines[0].startswith("iteration,expert,start_epoch,step,loss,lr")
    assert len(lines) == 7
    assert float(lines[1].split(",")[4]) == pytest.approx(float(loss[0]), rel=1e-6)
    snapshots = states_of(run)
    assert [state.iteration for state in snapshots] == [2, 4, 6]
    state = snapshots[-1]
    assert not torch.equal(state.averages["images"], state.learned["images"])


def test_ema_by_hand(make_run: MakeRun) -> None:
    run = make_run(distill__save_every=1, distill__iterations=3)
    pipeline.distill(run)
    data = dataset.read(run.dataset)
    ema = begun(run, data).learned["images"]
    for state in states_of(run):
        ema = 0.9 * ema + 0.1 * state.learned["images"]
        assert torch.allclose(state.averages["images"], ema, atol=1e-6)


def test_outer_momentum_is_sgd_as_torch_defines_it(make_run: MakeRun) -> None:
    run = make_run(distill__save_every=1, distill__iterations=3)
    pipeline.distill(run)
    kept = states_of(run)
    parameter = kept[0].learned["images"].clone().requires_grad_()
    optimiser = torch.optim.SGD([parameter], lr=1.0, momentum=0.5)
    optimiser.state[parameter]["momentum_buffer"] = kept[0].moments["images"]["velocity"].clone()
    for before, after in itertools.pairwise(kept):
        parameter.grad = after.moments["images"]["velocity"] - 0.5 * before.moments["images"]["velocity"]
        optimiser.step()
        assert torch.allclose(parameter.detach(), after.learned["images"], atol=1e-6)


def test_the_picture_shows_the_images_as_they_would_look(make_run: MakeRun) -> None:
    run = make_run(distill__iterations=1, distill__lr_img=0.0)
    pipeline.distill(run)
    data = dataset.read(run.dataset)
    state = begun(run, data)
    picture = np.asarray(Image.open(run.grid).convert("L")).astype(float)
    original = data.images["train"][(data.inputs("train") == state.learned["images"][0]).flatten(1).all(dim=1)][0, 0]
    shown = picture[2:50, 2:50].reshape(8, 6, 8, 6).mean(axis=(1, 3))
    assert np.abs(shown - original.numpy() / 16 * 255).max() <= 1


def test_every_engine_distils(make_run: MakeRun, tmp_path: Path) -> None:
    found = {}
    for name in ("adjoint", "unroll", "tesla"):
        run = make_run(tmp_path / name, distill__engine=name, distill__iterations=2)
        pipeline.distill(run)
        found[name] = synthetic.read(run.synthetic).variants["synthetic"]
    assert torch.allclose(found["adjoint"], found["unroll"], atol=1e-5)
    assert not torch.allclose(found["adjoint"], found["tesla"], atol=1e-5)


def test_the_same_choices_are_the_same_work_under_any_name(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.distill(make_run(distill__method="att"))
    monkeypatch.setattr(distill.Loop, "iterate", lambda *words: pytest.fail("it was distilled again"))
    before = synthetic.read(make_run().synthetic)
    pipeline.distill(make_run(distill__method="mtt", distill__select="nearest"))  # nothing to do, and nothing to refuse
    assert torch.equal(synthetic.read(make_run().synthetic).variants["ema"], before.variants["ema"])


def test_teacher_labels_are_the_target_experts(make_run: MakeRun) -> None:
    run = make_run(distill__labels="teacher", distill__iterations=1, distill__lr_img=0.0)
    pipeline.distill(run)
    found = synthetic.read(run.synthetic)
    with h5py.File(run.history) as history_file:
        expert, start = int(history_file["expert"][0]), int(history_file["start_epoch"][0])
    theta = torch.from_numpy(experts.read(experts.path(run.experts, expert))[1].parameters[start + 2])
    module = inputs.architecture(run.settings.network, dataset.read(run.dataset).about).build()
    wanted = Student.of(module).logits(theta, found.variants["synthetic"])
    assert torch.allclose(found.labels, wanted, atol=1e-5)


def test_adam_distils_and_resumes_to_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    settings = {"distill__optimiser": "adam", "distill__lr_img": 0.01}
    whole, parts = make_run(tmp_path / "whole", **settings), make_run(tmp_path / "parts", **settings)
    pipeline.distill(whole)
    pipeline.distill(make_run(tmp_path / "parts", **settings, distill__iterations=3))
    pipeline.distill(parts)
    assert whole.synthetic.read_bytes() == parts.synthetic.read_bytes()
    plain = make_run(tmp_path / "plain", distill__lr_img=0.01)
    pipeline.distill(plain)
    assert not torch.equal(*(synthetic.read(run.synthetic).variants["synthetic"] for run in (whole, plain)))


def test_the_scores_of_another_set_do_not_stay_beside_a_new_one(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    beside = [run.scores, run.scores.with_name("snapshot-scores.json"), run.scores.with_name("diagnosis") / "a.csv"]
    beside.append(run.scores.with_name("report") / "report.html")
    for file in beside:
        file.parent.mkdir(exist_ok=True)
        file.write_text("of the old set")
    pipeline.distill(make_run(distill__iterations=8))  # the same set, extended
    assert all(file.exists() for file in beside)
    pipeline.distill(make_run(distill__seed=1, force=True))
    assert not any(file.exists() for file in beside)


def test_the_scores_of_another_set_do_not_stay_where_the_set_was_deleted(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    pipeline.evaluate_snapshots(run)
    run.synthetic.unlink()
    pipeline.distill(run)
    scores = run.scores.with_name("snapshot-scores.json")
    assert scores.exists(), "it is the same set"
    content = json.loads(scores.read_text())
    del content["set"]["fingerprint"]  # as older versions wrote it
    for text in (scores.read_text(), json.dumps(content)):
        scores.write_text(text)
        run.synthetic.unlink()  # as DVC does, which does not know the scores of snapshots
        pipeline.distill(make_run(distill__lr_img=2.0, force=True))
        assert not scores.exists()


def test_iterations_that_other_snapshots_cost_are_told(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    other = make_run(distill__save_every=1, distill__iterations=7)
    assert kept.iterations(other) == 0
    with logged() as lines:
        pipeline.distill(other)
    (line,) = [line for line in lines if "are made again" in line]
    assert "no snapshot was kept of iteration 1, which distill.save_every 1 asks for: iterations 1 to 6" in line
    assert "ask for the old distill.save_every, or for 6, to go on after them" in line
    assert kept.iterations(make_run(distill__iterations=7)) == 7


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_last_save_waits(
    second: signal.Signals, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "SAME_SECONDS", -1.0)
    run = make_run(distill__iterations=50, distill__save_every=50)
    real = distill.Outcome.finish

    def interrupted(self: outcome.Outcome, state: states.State) -> None:
        signal.raise_signal(second)
        real(self, state)

    def one(self: distill.Loop, state: states.State, drawn: list[object]) -> object:
        signal.raise_signal(signal.SIGTERM)
        return iterate(self, state, drawn)

    iterate = distill.Loop.iterate
    monkeypatch.setattr(distill.Loop, "iterate", one)
    monkeypatch.setattr(distill.Outcome, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.distill(run)
    assert artefact.header(run.synthetic, synthetic.KIND, synthetic.MAKER).about["iteration"] == 1
    assert kept.iterations(run) == 1


def test_a_file_of_another_name_is_no_snapshot(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    before = states.snapshots(run.snapshots)
    run.snapshots.joinpath("iteration-0000004 (copy).h5").write_bytes(before[0].read_bytes())
    assert states.snapshots(run.snapshots) == before


def test_snapshots_among_the_results_are_those_that_the_settings_ask_for(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    before = run.synthetic.read_bytes()
    pipeline.distill(make_run(distill__save_every=3))
    assert [states.iteration_of(file) for file in states.snapshots(run.snapshots)] == [3, 6]
    assert run.synthetic.read_bytes() == before
    with logged() as lines:
        pipeline.distill(make_run(distill__iterations=4))
    assert [states.iteration_of(file) for file in states.snapshots(run.snapshots)] == [2, 4]
    assert any("snapshots after iteration 4 leave" in line and "--iterations 6" in line for line in lines)
    pipeline.distill(run)
    assert [states.iteration_of(file) for file in states.snapshots(run.snapshots)] == [2, 4, 6]


def test_a_first_iteration_that_fails_publishes_no_set(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    pipeline.buffer(run)

    def broken(self: TrajectoryMatching, *inputs: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(TrajectoryMatching, "slope", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        pipeline.distill(run)
    assert not run.synthetic.exists()


@pytest.mark.cpu
def test_the_history_says_what_the_run_was_executed_on(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    machine = artefact.header(run.history, history.KIND, history.MAKER).about["machine"]
    assert machine["device"] == "cpu"
    assert machine["threads"] >= 1
    assert "Student" in machine["steps"]


def test_a_finished_distillation_says_so_and_computes_nothing(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    pipeline.distill(run)
    before, machine = contents(run), artefact.header(run.history, history.KIND, history.MAKER).about["machine"]
    with monkeypatch.context() as patch, logged("INFO") as lines:
        patch.setattr(distill, "begin", lambda *_: pytest.fail("begun again"))
        pipeline.distill(run)
        run.synthetic.unlink()
        pipeline.distill(run)
    assert len([line for line in lines if line.startswith("all 6 iterations are done already")]) == 2
    assert not [line for line in lines if line.startswith("resuming")]
    assert contents(run) == before
    assert artefact.header(run.history, history.KIND, history.MAKER).about["machine"] == machine
    with logged("INFO") as lines:
        pipeline.distill(make_run(distill__iterations=8))
    assert "resuming after iteration 6 of 8" in lines


def test_images_that_have_run_away_are_told(make_run: MakeRun, tmp_path: Path) -> None:
    with logged() as lines:
        pipeline.distill(make_run(distill__lr_img=1e9))
    assert len(lines) == 1
    assert re.fullmatch(r"\d+ % of the pixels are far from .* they reach [\d.e+]+\); lower distill.lr_img", lines[0])
    with logged() as lines:
        pipeline.distill(make_run(tmp_path / "other"))
    assert lines == []


def test_the_picture_is_of_the_moving_average(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, draw = [], outcome.draw_grid
    monkeypatch.setattr(outcome, "draw_grid", lambda path, images, n: (seen.append(images), draw(path, images, n)))
    run = make_run(distill__iterations=2, distill__lr_img=100.0)
    pipeline.distill(run)
    kept, data = synthetic.read(run.synthetic), dataset.read(run.dataset)
    assert not torch.allclose(kept.variants["ema"], kept.variants["synthetic"], atol=1e-3)
    assert torch.allclose(seen[-1], data.normaliser.inverse(kept.variants["ema"]), atol=1e-6)
