"""The stages together: results, resumption, extension and refusal."""

import fcntl
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from attcli import runtime
from attcli.errors import DivergedError, UserError
from attcli.scoring import networks
from attcli.stages import distill, expert_training, pipeline, prepare
from attcli.stages.run import Run
from attcli.store import experts, synthetic
from tests.stages.observed import contents

MakeRun = Callable[..., Run]


def test_all_stages_twice_give_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in "ab"]
    reports = [pipeline.evaluate(run) for run in runs]
    assert reports[0] == reports[1]
    first, second = map(contents, runs)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    names = {"dataset.h5", "synthetic.h5", "scores.json", "images.png", "experts/expert-0001.h5"}
    assert names <= first.keys()
    assert [name for name in first if "snapshots" in name] == [f"snapshots/iteration-{i:07d}.h5" for i in (2, 4, 6)]


def test_seeds_matter_stage_by_stage(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run()
    pipeline.distill(first)
    images = synthetic.read(first.synthetic).variants["synthetic"]
    experts_before = {path.name: path.read_bytes() for path in experts.present(first.experts)}
    other = make_run(distill__seed=7, force=True)
    pipeline.distill(other)
    assert not torch.equal(synthetic.read(other.synthetic).variants["synthetic"], images)
    assert {path.name: path.read_bytes() for path in experts.present(first.experts)} == experts_before
    with pytest.raises(UserError, match=r"buffer\.seed is 0 there, 7 asked for"):
        pipeline.buffer(make_run(buffer__seed=7))


def test_finished_results_are_not_computed_again(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(evaluate__repeats=1)
    before = pipeline.evaluate(run)
    trained = []
    real = networks.train
    monkeypatch.setattr(networks, "train", lambda *arguments: trained.append(arguments) or real(*arguments))
    assert pipeline.evaluate(run) == before
    assert trained == []
    pipeline.evaluate(make_run(evaluate__repeats=2))
    assert len(trained) == 2 + 3  # synthetic and ema, and random real images at three learning rates


def test_more_experts_and_epochs_extend_what_is_there(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.buffer(make_run())
    epochs = []
    real = expert_training.train_epoch
    monkeypatch.setattr(expert_training, "train_epoch", lambda *a, **o: epochs.append(1) or real(*a, **o))
    extended = make_run(buffer__experts=3, buffer__epochs=4)
    pipeline.buffer(extended)
    assert len(epochs) == 2 * 1 + 4
    long = experts.read(experts.path(extended.experts, 0))[1].parameters
    fresh = make_run(extended.settings.runtime.artifacts.parent / "fresh", buffer__experts=3, buffer__epochs=4)
    pipeline.buffer(fresh)
    assert np.array_equal(long, experts.read(experts.path(fresh.experts, 0))[1].parameters)


def test_deleted_results_come_back_from_the_work_folder(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    pipeline.evaluate(run)
    before = contents(run)
    shutil.rmtree(run.settings.runtime.artifacts)
    for stage, name in (
        (expert_training, "train_epoch"),
        (distill.Loop, "iterate"),
        (networks, "train"),
        (prepare, "_make"),
    ):
        monkeypatch.setattr(stage, name, lambda *a, **o: pytest.fail("computed again"))
    pipeline.evaluate(run)
    assert contents(run) == before


def test_deleted_work_comes_back_from_the_results(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    pipeline.distill(run)
    shutil.rmtree(run.settings.runtime.work_dir)
    monkeypatch.setattr(expert_training, "train_epoch", lambda *a, **o: pytest.fail("computed again"))
    more = make_run(distill__iterations=8)
    pipeline.distill(more)
    assert synthetic.read(more.synthetic).about["iteration"] == 8


def test_fewer_iterations_are_taken_from_a_snapshot_and_more_go_on(make_run: MakeRun, tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", distill__iterations=8)
    pipeline.distill(whole)
    run = make_run()
    pipeline.distill(run)  # 6
    pipeline.distill(make_run(distill__iterations=3))  # from the snapshot after 2
    assert synthetic.read(run.synthetic).about["iteration"] == 3
    pipeline.distill(make_run(distill__iterations=8))
    assert run.synthetic.read_bytes() == whole.synthetic.read_bytes()
    with h5py.File(run.history) as mine, h5py.File(whole.history) as theirs:
        assert np.array_equal(mine["l1"][()], theirs["l1"][()])
        assert mine["iteration"][()].tolist() == list(range(8))


def test_the_time_limit_stops_saved_and_usable(make_run: MakeRun) -> None:
    run = make_run(distill__iterations=50)
    pipeline.distill(Run(run.settings, time_limit=1e-9))
    assert not run.synthetic.exists()
    pipeline.buffer(run)
    pipeline.distill(Run(run.settings, time_limit=1e-9, auto=False))
    assert synthetic.read(run.synthetic).about["iteration"] == 1
    pipeline.distill(Run(make_run().settings))
    assert synthetic.read(run.synthetic).about["iteration"] == 6


def test_another_set_is_refused_before_experts_are_trained(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    with pytest.raises(UserError, match=r"made with other settings \(buffer\.experts is 2 there, 9 asked for\)"):
        pipeline.distill(make_run(buffer__experts=9))
    assert len(experts.present(run.experts)) == 2


def test_the_history_goes_on_when_the_work_folder_is_deleted(make_run: MakeRun) -> None:
    run = make_run(distill__iterations=4)
    pipeline.distill(run)
    shutil.rmtree(run.settings.runtime.work_dir)
    pipeline.distill(make_run(distill__iterations=8))
    with h5py.File(run.history) as file:
        assert file["iteration"][()].tolist() == list(range(8))


def test_a_file_that_is_not_opened_is_not_called_damaged(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    pipeline.distill(run)
    with pytest.raises(UserError, match=r"artifacts is a folder; name the file in it"):
        pipeline.evaluate(run, tmp_path / "artifacts")
    with run.synthetic.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"synthetic\.h5 cannot be opened \(Resource temporarily unavailable\)"):
            pipeline.evaluate(run)


def test_what_differs_is_named(make_run: MakeRun) -> None:
    pipeline.distill(make_run())
    with pytest.raises(UserError, match=r"network\.width is 8 there, 16 asked for.*--force overwrites"):
        pipeline.distill(make_run(network__width=16))
    with pytest.raises(
        UserError, match=r"dataset\.h5 was made with .* \(prepare\.normalise is standardise there, zca asked for"
    ):
        pipeline.distill(make_run(prepare__normalise="zca"))
    with pytest.raises(UserError, match=r"synthetic\.h5 was made with .* \(distill\.ipc is 1 there, 2 asked for\)"):
        pipeline.distill(make_run(distill__ipc=2))
    with pytest.raises(
        UserError, match=r"holds other experts \(network\.width is 8 there, 16 asked for\); run `attcli b"
    ):
        pipeline.distill(make_run(network__width=16, auto=False))
    with pytest.raises(UserError, match=r"have 3 epochs, distilling reads 4; run `attcli buffer`"):
        pipeline.distill(make_run(distill__max_start_epoch=3, auto=False))
    pipeline.distill(make_run(distill__ipc=2, force=True))


def test_experts_of_another_dataset_are_told_by_what_differs(make_run: MakeRun) -> None:
    pipeline.buffer(make_run())
    pipeline.prepare(make_run(prepare__validation=50, force=True))
    with pytest.raises(UserError, match=r"holds other experts \(prepare\.validation is 100 there, 50 asked for\)"):
        pipeline.distill(make_run(prepare__validation=50, auto=False))


def test_missing_inputs_without_auto(make_run: MakeRun) -> None:
    run = make_run(auto=False)
    for stage in (pipeline.buffer, pipeline.distill):
        with pytest.raises(UserError, match=r"dataset\.h5 is missing; run `attcli prepare`"):
            stage(run)
    with pytest.raises(UserError, match=r"synthetic\.h5 is missing; run `attcli distill`"):
        pipeline.evaluate(run)
    pipeline.prepare(run)
    with pytest.raises(UserError, match=r"2 of 2 experts are missing .*; run `attcli buffer`"):
        pipeline.distill(run)


def test_damaged_inputs(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    for path, stage in (
        (run.synthetic, pipeline.evaluate),
        (experts.path(run.experts, 1), pipeline.distill),
        (run.dataset, pipeline.buffer),
    ):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(UserError, match=r"is damaged or cut short .*; move it elsewhere and run `attcli "):
            stage(run)
        path.unlink()
        path.write_bytes(data)


def test_an_expert_that_diverges_is_told(make_run: MakeRun) -> None:
    with pytest.raises(DivergedError, match=r"expert 0 diverged in epoch \d; lower buffer\.lr"):
        pipeline.buffer(make_run(buffer__lr=1e30))


@pytest.mark.parametrize("method", ["datm", "att+datm", "ftd", "tesla"])
def test_methods_resume_to_the_same_bytes(method: str, make_run: MakeRun, tmp_path: Path) -> None:
    # Up to the epoch that labels the images, which a longer training would change.
    settings = {"distill__method": method, "buffer__epochs": 3, "distill__expansion_end": 3, "distill__max_loss": 9.0}
    whole = make_run(tmp_path / "whole", **settings)
    pipeline.distill(whole)
    parts = make_run(tmp_path / "parts", **settings, distill__iterations=2)
    pipeline.distill(parts)
    pipeline.distill(make_run(tmp_path / "parts", **settings))
    assert whole.synthetic.read_bytes() == parts.synthetic.read_bytes()
    found = synthetic.read(whole.synthetic)
    assert found.labels.is_floating_point() == ("datm" in method)
    report = pipeline.evaluate(whole)
    assert report["scores"]["convnet"]["random"]["n"] == 2


def test_experts_of_a_network_whose_parts_were_reordered_are_refused(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.buffer(run)
    file = experts.path(run.experts, 0)
    header, trajectory = experts.read(file)
    layout = [header.about["layout"][i] for i in (1, 0, *range(2, len(header.about["layout"])))]
    other = replace(header, about={**header.about, "layout": layout})
    experts.write(run.experts / "other.h5", other, trajectory)
    (run.experts / "other.h5").replace(file)
    with pytest.raises(UserError, match=r"experts of a network with other parameters .*attcli buffer --fresh"):
        pipeline.distill(replace(run, auto=False))


def test_every_draw_is_seeded_by_its_own_stage(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, set[int]] = {}
    real = runtime._key

    def noted(seed: int, purpose: str, *index: int) -> Any:
        keys.setdefault(purpose, set()).add(seed)
        return real(seed, purpose, *index)

    monkeypatch.setattr(runtime, "_key", noted)
    seeds = {f"{stage}__seed": n for n, stage in enumerate(("prepare", "buffer", "distill", "evaluate"), 11)}
    short: dict[str, object] = {
        "prepare__limit_per_class": 50,
        "buffer__batch": 64,
        "buffer__curriculum": "easy-first",
        "buffer__difficulty_networks": 1,
        "buffer__difficulty_epochs": 1,
        "distill__iterations": 1,
        "evaluate__repeats": 1,
        "evaluate__epochs": 1,
        "evaluate__baselines": "random,whole",
        "evaluate__whole_epochs": 1,
    }
    pipeline.evaluate(make_run(**seeds, **short))
    of_stage = {
        11: ("limit", "validation"),
        12: ("expert-weights", "expert-epoch", "difficulty-weights"),
        13: ("initial-images", "iteration"),
        14: ("evaluate-weights", "evaluate-training", "random-images", "whole-weights"),
    }
    wanted = {purpose: {seed} for seed, purposes in of_stage.items() for purpose in purposes}
    assert {purpose: keys[purpose] for purpose in wanted} == wanted


def test_a_stage_without_a_seed_of_its_own_has_the_runs(make_run: Callable[..., Run]) -> None:
    settings = make_run(seed=7, buffer__seed=0).settings
    assert (settings.seed_of("distill"), settings.seed_of("buffer")) == (7, 0)
