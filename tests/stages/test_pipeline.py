"""The stages together: results, resumption, extension and refusal."""

import fcntl
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from loguru import logger
from PIL import Image

from attcli.errors import UserError
from attcli.matching.student import Student
from attcli.stages import buffer, distill, evaluate, initial, prepare
from attcli.stages.run import Run
from attcli.store import artefact, dataset, experts, synthetic

MakeRun = Callable[..., Run]


@contextmanager
def logged() -> Iterator[list[str]]:
    """The warnings that are logged meanwhile."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    try:
        yield lines
    finally:
        logger.remove(sink)


def contents(run: Run) -> dict[str, object]:
    """Everything that a run made and that holds no times, byte by byte; of the history all but the seconds."""
    found: dict[str, object] = {
        str(path.relative_to(run.settings.runtime.artifacts)): path.read_bytes()
        for path in sorted(run.settings.runtime.artifacts.rglob("*"))
        if path.is_file() and not path.name.startswith("history")
    }
    with h5py.File(run.history) as file:
        found |= {f"history/{name}": file[name][()].tobytes() for name in file if name != "seconds"}
    return found


def test_all_stages_twice_give_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in "ab"]
    reports = [evaluate.run(run) for run in runs]
    assert reports[0] == reports[1]
    first, second = map(contents, runs)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    names = {"dataset.h5", "synthetic.h5", "scores.json", "images.png", "experts/expert-0001.h5"}
    assert names <= first.keys()
    assert [name for name in first if "snapshots" in name] == [f"snapshots/iteration-{i:07d}.h5" for i in (2, 4, 6)]


def test_seeds_matter_stage_by_stage(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run()
    distill.run(first)
    images = synthetic.read(first.synthetic).variants["synthetic"]
    experts_before = {path.name: path.read_bytes() for path in experts.present(first.experts)}
    other = make_run(distill__seed=7, force=True)
    distill.run(other)
    assert not torch.equal(synthetic.read(other.synthetic).variants["synthetic"], images)
    assert {path.name: path.read_bytes() for path in experts.present(first.experts)} == experts_before
    with pytest.raises(UserError, match=r"buffer\.seed is 0 there, 7 asked for"):
        buffer.run(make_run(buffer__seed=7))


def test_scores_have_the_stated_form(make_run: MakeRun) -> None:
    run = make_run(evaluate__archs="convnet,mlp")
    report = evaluate.run(run)
    assert json.loads(run.scores.read_text()) == json.loads(json.dumps(report))
    assert set(report["scores"]) == {"convnet", "mlp"}
    for row in report["scores"].values():
        assert set(row) == {"synthetic", "ema", "random"}
        for entry in row.values():
            assert set(entry) == {"mean", "sd", "n"}
            assert 0 <= entry["mean"] <= 100
            assert entry["n"] == 2
    assert report["protocol"]["epochs"] == 4


def test_sd_is_that_of_a_sample() -> None:
    assert evaluate.summary([1.0, 2.0, 4.0]) == {"mean": 2.3333, "sd": 1.5275, "n": 3}
    assert evaluate.summary([5.0]) == {"mean": 5.0, "sd": None, "n": 1}


def test_a_set_is_scored_from_its_file_alone(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    here = evaluate.run(run)
    away = make_run(tmp_path / "away")
    shutil.copy(run.synthetic, tmp_path / "set.h5")
    assert evaluate.run(away, tmp_path / "set.h5") == here
    changes = {"prepare__validation": 0, "buffer__batch": 64, "prepare__dataset": "cifar10"}
    third = make_run(tmp_path / "third", **changes)
    with pytest.raises(UserError, match=r"was distilled from digits, not cifar10; add --dataset digits"):
        evaluate.run(third, tmp_path / "set.h5")


def test_finished_results_are_not_computed_again(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(evaluate__repeats=1)
    before = evaluate.run(run)
    trained = []
    real = evaluate.train
    monkeypatch.setattr(evaluate, "train", lambda *arguments: trained.append(arguments) or real(*arguments))
    assert evaluate.run(run) == before
    assert trained == []
    evaluate.run(make_run(evaluate__repeats=2))
    assert len(trained) == 2 + 3  # synthetic and ema, and random real images at three learning rates


def test_random_images_are_fresh_each_repeat_and_as_many(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(distill__ipc=2)
    distill.run(run)
    met = []
    real = evaluate.train

    def note(steps, theta, images, labels, classes, lr, protocol, key, stop):
        met.append((images, labels, key[2]))
        return real(steps, theta, images, labels, classes, lr, protocol, key, stop)

    monkeypatch.setattr(evaluate, "train", note)
    evaluate.run(run)
    randoms = [entry for entry in met if len(met) and not any(torch.equal(entry[0], v) for v in _variants(run))]
    assert len(randoms) == 2 * 3
    first, second = ([entry[0] for entry in randoms if entry[2] == repeat] for repeat in range(2))
    assert torch.equal(first[0], first[1])  # the same images at every learning rate
    assert not torch.equal(first[0], second[0])
    assert randoms[0][1].bincount().tolist() == [2] * 10


def _variants(run: Run) -> list[torch.Tensor]:
    return list(synthetic.read(run.synthetic).variants.values())


def test_more_experts_and_epochs_extend_what_is_there(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer.run(make_run())
    epochs = []
    real = buffer.train_epoch
    monkeypatch.setattr(buffer, "train_epoch", lambda *a, **o: epochs.append(1) or real(*a, **o))
    extended = make_run(buffer__experts=3, buffer__epochs=4)
    buffer.run(extended)
    assert len(epochs) == 2 * 1 + 4
    long = experts.read(experts.path(extended.experts, 0))[1].parameters
    fresh = make_run(extended.settings.runtime.artifacts.parent / "fresh", buffer__experts=3, buffer__epochs=4)
    buffer.run(fresh)
    assert np.array_equal(long, experts.read(experts.path(fresh.experts, 0))[1].parameters)


def test_momentum_is_extended_too(make_run: MakeRun, tmp_path: Path) -> None:
    steps = make_run(tmp_path / "a", buffer__momentum=0.9)
    buffer.run(steps)
    longer = make_run(tmp_path / "a", buffer__momentum=0.9, buffer__epochs=5)
    buffer.run(longer)
    whole = make_run(tmp_path / "b", buffer__momentum=0.9, buffer__epochs=5)
    buffer.run(whole)
    for index in range(2):
        assert experts.path(longer.experts, index).read_bytes() == experts.path(whole.experts, index).read_bytes()


def test_deleted_results_come_back_from_the_work_folder(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    evaluate.run(run)
    before = contents(run)
    shutil.rmtree(run.settings.runtime.artifacts)
    for stage, name in (
        (buffer, "train_epoch"),
        (distill.Distiller, "iterate"),
        (evaluate, "train"),
        (prepare, "_make"),
    ):
        monkeypatch.setattr(stage, name, lambda *a, **o: pytest.fail("computed again"))
    evaluate.run(run)
    assert contents(run) == before


def test_deleted_work_comes_back_from_the_results(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    distill.run(run)
    shutil.rmtree(run.settings.runtime.work_dir)
    monkeypatch.setattr(buffer, "train_epoch", lambda *a, **o: pytest.fail("computed again"))
    more = make_run(distill__iterations=8)
    distill.run(more)
    assert synthetic.read(more.synthetic).about["iteration"] == 8


def test_fewer_iterations_are_taken_from_a_snapshot_and_more_go_on(make_run: MakeRun, tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", distill__iterations=8)
    distill.run(whole)
    run = make_run()
    distill.run(run)  # 6
    distill.run(make_run(distill__iterations=3))  # from the snapshot after 2
    assert synthetic.read(run.synthetic).about["iteration"] == 3
    distill.run(make_run(distill__iterations=8))
    assert run.synthetic.read_bytes() == whole.synthetic.read_bytes()
    with h5py.File(run.history) as mine, h5py.File(whole.history) as theirs:
        assert np.array_equal(mine["l1"][()], theirs["l1"][()])
        assert mine["iteration"][()].tolist() == list(range(8))


def test_the_time_limit_stops_saved_and_usable(make_run: MakeRun) -> None:
    run = make_run(distill__iterations=50)
    distill.run(Run(run.settings, time_limit=1e-9))
    assert not run.synthetic.exists()
    buffer.run(run)
    distill.run(Run(run.settings, time_limit=1e-9, auto=False))
    assert synthetic.read(run.synthetic).about["iteration"] == 1
    distill.run(Run(make_run().settings))
    assert synthetic.read(run.synthetic).about["iteration"] == 6


def test_another_set_is_refused_before_experts_are_trained(make_run: MakeRun) -> None:
    run = make_run()
    distill.run(run)
    with pytest.raises(UserError, match=r"synthetic\.h5 is another one \(distill\.experts is 2 there, 9 asked for\)"):
        distill.run(make_run(buffer__experts=9))
    assert len(experts.present(run.experts)) == 2


def test_the_history_goes_on_when_the_work_folder_is_deleted(make_run: MakeRun) -> None:
    run = make_run(distill__iterations=4)
    distill.run(run)
    shutil.rmtree(run.settings.runtime.work_dir)
    distill.run(make_run(distill__iterations=8))
    with h5py.File(run.history) as file:
        assert file["iteration"][()].tolist() == list(range(8))


def test_a_file_that_is_not_opened_is_not_called_damaged(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    distill.run(run)
    with pytest.raises(UserError, match=r"artifacts cannot be opened \(it is a folder\)"):
        evaluate.run(run, tmp_path / "artifacts")
    with run.synthetic.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"synthetic\.h5 cannot be opened \(Resource temporarily unavailable\)"):
            evaluate.run(run)


def test_the_scores_of_another_set_are_not_the_results(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    evaluate.run(run)
    before = run.scores.read_bytes()
    distill.run(make_run(tmp_path / "other", distill__lr_img=2.0))
    evaluate.run(run, tmp_path / "other" / "artifacts" / "synthetic.h5")
    assert run.scores.read_bytes() == before


def test_what_differs_is_named(make_run: MakeRun) -> None:
    distill.run(make_run())
    with pytest.raises(UserError, match=r"network\.width is 8 there, 16 asked for.*--force overwrites"):
        distill.run(make_run(network__width=16))
    with pytest.raises(UserError, match=r"dataset\.h5 is another one \(normalise is standardise there, zca asked for"):
        distill.run(make_run(prepare__normalise="zca"))
    with pytest.raises(UserError, match=r"synthetic\.h5 is another one \(distill\.ipc is 1 there, 2 asked for\)"):
        distill.run(make_run(distill__ipc=2))
    with pytest.raises(
        UserError, match=r"holds other experts \(network\.width is 8 there, 16 asked for\); run `attcli b"
    ):
        distill.run(make_run(network__width=16, auto=False))
    with pytest.raises(UserError, match=r"experts have 3 epochs|have 3 epochs, matching reads 4; run `attcli buffer`"):
        distill.run(make_run(distill__max_start_epoch=3, auto=False))
    distill.run(make_run(distill__ipc=2, force=True))


def test_experts_of_another_dataset_are_told_by_what_differs(make_run: MakeRun) -> None:
    buffer.run(make_run())
    prepare.run(make_run(prepare__validation=50, force=True))
    with pytest.raises(UserError, match=r"holds other experts \(prepare\.validation is 100 there, 50 asked for\)"):
        distill.run(make_run(prepare__validation=50, auto=False))


def test_missing_inputs_without_auto(make_run: MakeRun) -> None:
    run = make_run(auto=False)
    for stage in (buffer, distill):
        with pytest.raises(UserError, match=r"dataset\.h5 is missing; run `attcli prepare`"):
            stage.run(run)
    with pytest.raises(UserError, match=r"synthetic\.h5 is missing; run `attcli distill`"):
        evaluate.run(run)
    prepare.run(run)
    with pytest.raises(UserError, match=r"2 of 2 experts are missing .*; run `attcli buffer`"):
        distill.run(run)


def test_damaged_inputs(make_run: MakeRun) -> None:
    run = make_run()
    distill.run(run)
    for path, stage in ((run.synthetic, evaluate), (experts.path(run.experts, 1), distill), (run.dataset, buffer)):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(UserError, match=r"is damaged or cut short .*; delete it and run `attcli "):
            stage.run(run)
        path.unlink()
        path.write_bytes(data)


def test_noise_initialisation_and_sub_batches(make_run: MakeRun) -> None:
    run = make_run(distill__init="noise", distill__ipc=2, distill__batch_syn=7)
    distill.run(run)
    found = synthetic.read(run.synthetic)
    assert found.variants["synthetic"].shape == (20, 1, 8, 8)
    assert found.labels.tolist() == sorted(found.labels.tolist())


def begun(run: Run, data: dataset.Dataset) -> synthetic.State:
    """What a distillation from real images with hard labels starts from; no expert is asked."""
    return initial.begin(run.settings, data, None, None, torch.device("cpu"))


def test_real_initialisation_is_class_by_class(make_run: MakeRun) -> None:
    run = make_run(distill__ipc=3)
    prepare.run(run)
    data = dataset.read(run.dataset)
    state = begun(run, data)
    train = data.inputs("train")
    for image, label in zip(state.images, state.labels, strict=True):
        matches = (train == image).flatten(1).all(dim=1)
        assert data.labels["train"][matches].tolist() == [int(label)]


def test_the_learning_rate_is_kept_above_its_minimum_and_counted(make_run: MakeRun) -> None:
    run = make_run(distill__lr_lr=1e6, distill__min_lr=0.005)
    distill.run(run)
    found = synthetic.read(run.synthetic)
    assert found.about["counts"]["lr_projected"] > 0
    assert found.lr >= 0.005 - 1e-8


def test_updates_that_are_not_finite_touch_nothing_and_end_the_run(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(distill__max_bad_updates=3, distill__iterations=20)
    distill.run(make_run(distill__iterations=2))
    before = synthetic.read(run.synthetic)
    real = distill.engine.load("adjoint")

    def broken(student, start, target, batches, lr, select):
        match = real(student, start, target, batches, lr, select)
        batches.gradients()[0][0] = float("nan")
        return match

    monkeypatch.setattr(distill.engine, "load", lambda name: broken)
    with pytest.raises(UserError, match=r"3 updates in a row were not finite, the last at iteration 4; lower distill"):
        distill.run(run)
    after = synthetic.read(run.synthetic)
    assert after.about["counts"] == {"lr_projected": 0, "skipped": 3, "skipped_in_a_row": 3, "rejected": 0}
    assert after.lr == before.lr
    for kind in before.variants:
        assert torch.equal(after.variants[kind], before.variants[kind])
    monkeypatch.undo()
    distill.run(make_run(distill__iterations=8))
    with h5py.File(run.history) as file:
        assert file["iteration"][()].tolist() == list(range(8))
        assert file["accepted"][()].tolist() == [1, 1, 0, 0, 0, 1, 1, 1]


def test_history_and_ema_tell_what_happened(make_run: MakeRun) -> None:
    run = make_run()
    distill.run(run)
    with h5py.File(run.history) as file:
        steps, l1, l2, loss = (file[name][()] for name in ("step", "l1", "l2", "loss"))
        assert l1.shape == l2.shape == (6, 5)
        assert np.array_equal(steps, l1.argmin(axis=1) + 1)
        assert (file["seconds"][()] > 0).all()
    lines = run.history.with_suffix(".csv").read_text().splitlines()
    assert lines[0].startswith("iteration,expert,start_epoch,step,loss,lr")
    assert len(lines) == 7
    assert float(lines[1].split(",")[4]) == pytest.approx(float(loss[0]), rel=1e-6)
    snapshots = [synthetic.read_snapshot(path) for path in synthetic.snapshots(run.snapshots)]
    assert [state.iteration for state in snapshots] == [2, 4, 6]
    state = snapshots[-1]
    assert not torch.equal(state.ema, state.images)


def test_ema_by_hand(make_run: MakeRun) -> None:
    run = make_run(distill__save_every=1, distill__iterations=3)
    distill.run(run)
    data = dataset.read(run.dataset)
    ema = begun(run, data).images
    for path in synthetic.snapshots(run.snapshots):
        state = synthetic.read_snapshot(path)
        ema = 0.9 * ema + 0.1 * state.images
        assert torch.allclose(state.ema, ema, atol=1e-6)


def test_outer_momentum_is_sgd_as_torch_defines_it(make_run: MakeRun) -> None:
    run = make_run(distill__save_every=1, distill__iterations=3)
    distill.run(run)
    states = [synthetic.read_snapshot(path) for path in synthetic.snapshots(run.snapshots)]
    parameter = states[0].images.clone().requires_grad_()
    optimiser = torch.optim.SGD([parameter], lr=1.0, momentum=0.5)
    optimiser.state[parameter]["momentum_buffer"] = states[0].momentum_images.clone()
    for before, after in itertools.pairwise(states):
        parameter.grad = after.momentum_images - 0.5 * before.momentum_images
        optimiser.step()
        assert torch.allclose(parameter.detach(), after.images, atol=1e-6)


def test_the_picture_shows_the_images_as_they_would_look(make_run: MakeRun) -> None:
    run = make_run(distill__iterations=1, distill__lr_img=0.0)
    distill.run(run)
    data = dataset.read(run.dataset)
    state = begun(run, data)
    picture = np.asarray(Image.open(run.grid).convert("L")).astype(float)
    original = data.images["train"][(data.inputs("train") == state.images[0]).flatten(1).all(dim=1)][0, 0]
    shown = picture[2:50, 2:50].reshape(8, 6, 8, 6).mean(axis=(1, 3))
    assert np.abs(shown - original.numpy() / 16 * 255).max() <= 1


def test_validation_is_split_off_stratified_and_limits_hold(make_run: MakeRun) -> None:
    run = make_run(prepare__limit_per_class=50, prepare__validation=105, buffer__batch=64)
    prepare.run(run)
    data = dataset.read(run.dataset)
    counts = {split: data.labels[split].bincount() for split in data.labels}
    assert int(counts["validation"].sum()) == 105
    assert counts["validation"].tolist() == [11] * 5 + [10] * 5
    assert (counts["train"] + counts["validation"]).tolist() == [50] * 10
    kept = {image.numpy().tobytes() for image in data.images["train"]}
    assert not kept & {image.numpy().tobytes() for image in data.images["validation"]}


def test_snapshots_are_scored_on_validation(make_run: MakeRun) -> None:
    run = make_run()
    distill.run(run)
    report = evaluate.run_snapshots(run)
    assert [row["iteration"] for row in report["snapshots"]] == [2, 4, 6]
    assert {row["split"] for row in report["snapshots"]} == {"validation"}
    assert report["last"]["iteration"] == 6
    assert report["last"]["split"] == "test"
    assert report["last"]["convnet"] == {
        kind: evaluate.run(run)["scores"]["convnet"][kind] for kind in ("synthetic", "ema")
    }
    selected = report["selected"]["convnet"]["synthetic"]
    best = max(report["snapshots"], key=lambda row: row["convnet"]["synthetic"]["mean"])
    assert selected["iteration"] == best["iteration"]
    assert "literature_maximum" not in report
    assert evaluate.run_snapshots(make_run()) == report


def test_the_literatures_maximum_is_over_tests_and_labelled(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "none", prepare__validation=0)
    distill.run(run)
    report = evaluate.run_snapshots(run, literature=True)
    assert "selected" not in report
    assert [(row["iteration"], row["split"]) for row in report["tests"]] == [(2, "test"), (4, "test"), (6, "test")]
    for kind in ("synthetic", "ema"):
        found = report["literature_maximum"]["convnet"][kind]
        assert found["mean"] == max(row["convnet"][kind]["mean"] for row in report["tests"])
        (row,) = [row for row in report["tests"] if row["iteration"] == found["iteration"]]
        assert found == {"iteration": row["iteration"], **row["convnet"][kind]}


def test_without_validation_no_snapshot_is_selected(make_run: MakeRun) -> None:
    run = make_run(prepare__validation=0)
    distill.run(run)
    with logged() as lines:
        assert set(evaluate.run_snapshots(run)) == {"last"}
    assert "has no validation images, so that none is selected" in lines[0]


def test_snapshots_are_not_scored_with_images_that_may_be_in_them(make_run: MakeRun) -> None:
    distill.run(make_run(prepare__validation=0))
    later = make_run(prepare__validation=100, force=True)
    prepare.run(later)
    with pytest.raises(UserError, match=r"was distilled from other images than those in .*dataset\.h5"):
        evaluate.run_snapshots(later)


def test_a_set_that_is_not_what_is_asked_for_is_scored_with_a_warning(make_run: MakeRun) -> None:
    run = make_run(distill__iterations=3)
    first = evaluate.run(run)
    with logged() as lines:
        assert evaluate.run(make_run()) == first
    assert "is from iteration 3 of 6; it is scored as it is, `attcli distill` goes on with it" in lines[0]
    with logged() as lines:
        assert evaluate.run(make_run(distill__lr_img=2.0, distill__iterations=3)) == first
    assert "other settings (distill.lr_img is 1.0 there, 2.0 asked for)" in lines[0]
    with logged() as lines:
        evaluate.run(run)
    assert lines == []


def test_no_baseline_where_a_class_has_too_few_images(make_run: MakeRun) -> None:
    run = make_run(
        prepare__limit_per_class=20, prepare__validation=50, distill__ipc=17, distill__init="noise", buffer__batch=64
    )
    with logged() as lines:
        report = evaluate.run(run)
    assert set(report["scores"]["convnet"]) == {"synthetic", "ema"}
    assert any("a class has 15 training images: too few" in line for line in lines)


def test_snapshots_beyond_the_asked_iterations_and_foreign_ones_are_no_results(make_run: MakeRun) -> None:
    run = make_run()
    distill.run(run)
    later = run.snapshots / "iteration-0000006.h5"
    distill.run(make_run(distill__iterations=4))
    assert not later.exists()
    assert evaluate.run_snapshots(make_run(distill__iterations=4))["last"]["iteration"] == 4
    distill.run(run)
    assert later.exists()
    run.synthetic.unlink()
    with pytest.raises(UserError, match=r"iteration-0000002\.h5 is another one \(distill\.lr_img is 1\.0 there"):
        distill.run(make_run(distill__lr_img=2.0))
    assert later.exists()


def test_without_validation_the_baselines_learning_rate_is_chosen_on_other_training_images(make_run: MakeRun) -> None:
    report = evaluate.run(make_run(prepare__validation=0))
    assert report["scores"]["convnet"]["random"]["n"] == 2


def test_an_expert_that_diverges_is_told(make_run: MakeRun) -> None:
    with pytest.raises(UserError, match=r"expert 0 diverged in epoch \d; lower buffer\.lr"):
        buffer.run(make_run(buffer__lr=1e30))


def test_the_zca_normaliser_travels_with_the_set(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "zca", prepare__normalise="zca")
    distill.run(run)
    found = synthetic.read(run.synthetic)
    assert found.normaliser is not None
    assert found.normaliser.digest() == dataset.read(run.dataset).normaliser.digest()
    assert artefact.header(run.synthetic, "synthetic", "x").about["normaliser"]["eps"] == 0.1


def test_every_engine_distils(make_run: MakeRun, tmp_path: Path) -> None:
    found = {}
    for name in ("adjoint", "unroll", "tesla"):
        run = make_run(tmp_path / name, distill__engine=name, distill__iterations=2)
        distill.run(run)
        found[name] = synthetic.read(run.synthetic).variants["synthetic"]
    assert torch.allclose(found["adjoint"], found["unroll"], atol=1e-5)
    assert not torch.allclose(found["adjoint"], found["tesla"], atol=1e-5)


@pytest.mark.parametrize("method", ["datm", "att+datm", "ftd", "tesla"])
def test_methods_resume_to_the_same_bytes(method: str, make_run: MakeRun, tmp_path: Path) -> None:
    # Up to the epoch that labels the images, which a longer training would change.
    settings = {"distill__method": method, "buffer__epochs": 3, "distill__expansion_end": 3, "distill__max_loss": 9.0}
    whole = make_run(tmp_path / "whole", **settings)
    distill.run(whole)
    parts = make_run(tmp_path / "parts", **settings, distill__iterations=2)
    distill.run(parts)
    distill.run(make_run(tmp_path / "parts", **settings))
    assert whole.synthetic.read_bytes() == parts.synthetic.read_bytes()
    found = synthetic.read(whole.synthetic)
    assert found.labels.is_floating_point() == ("datm" in method)
    report = evaluate.run(whole)
    assert report["scores"]["convnet"]["random"]["n"] == 2


def test_the_same_choices_are_the_same_work_under_any_name(make_run: MakeRun) -> None:
    distill.run(make_run(distill__method="att"))
    before = make_run().synthetic.stat().st_mtime_ns
    distill.run(make_run(distill__method="mtt", distill__select="nearest"))  # nothing to do, and nothing to refuse
    assert make_run().synthetic.stat().st_mtime_ns >= before


def test_teacher_labels_are_the_target_experts(make_run: MakeRun) -> None:
    run = make_run(distill__labels="teacher", distill__iterations=1, distill__lr_img=0.0)
    distill.run(run)
    found = synthetic.read(run.synthetic)
    with h5py.File(run.history) as history_file:
        expert, start = int(history_file["expert"][0]), int(history_file["start_epoch"][0])
    theta = torch.from_numpy(experts.read(experts.path(run.experts, expert))[1].parameters[start + 2])
    module = buffer.architecture(run.settings.network, dataset.read(run.dataset).about).build()
    wanted = Student.of(module).logits(theta, found.variants["synthetic"])
    assert torch.allclose(found.labels, wanted, atol=1e-5)
