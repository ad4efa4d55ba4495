"""The history of a distillation: its cost, and what is left of it when files are lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from attcli.stages import outcome, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, dataset, history
from tests.stages.observed import logged

MakeRun = Callable[..., Run]


def record(iteration: int) -> history.Record:
    return history.Record(iteration, 0, 0, 2, 0.5, 0.01, 0.1, 1, np.zeros(3, np.float32), np.zeros(3, np.float32))


def test_writing_the_history_is_linear_in_the_iterations(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    pipeline.distill(run)
    header = artefact.header(run.synthetic, "synthetic", "x")
    results = outcome.Outcome(run, dataset.read(run.dataset), header, run.work("distill", header.fingerprint))
    state = results.resume(6)
    assert state is not None
    shutil.rmtree(run.work("distill", header.fingerprint) / "history")
    written: list[int] = []
    real = history.write
    monkeypatch.setattr(
        history, "write", lambda p, h, arrays: written.append(len(arrays["loss"])) or real(p, h, arrays)
    )
    monkeypatch.setattr(outcome, "HISTORY_SECONDS", -1.0)
    for module in (outcome.synthetic, outcome.states, outcome.normaliser):
        monkeypatch.setattr(module, "write", lambda *inputs: None)
    for name in ("publish", "_read"):
        monkeypatch.setattr(outcome, name, lambda *inputs: None)
    monkeypatch.setattr(outcome.Outcome, "_draw_grid", lambda *inputs: None)
    saves, each = 60, 10
    for save in range(saves):
        results.records = [record(save * each + i) for i in range(each)]
        results.save(outcome.states.State(**{**vars(state), "iteration": (save + 1) * each}))
    total = saves * each
    assert sum(written) <= 12 * total  # written whole at each save it would be 30 times
    assert total / 1.1 <= written[-1] <= total  # and it is never far behind
    with h5py.File(run.history) as file:
        assert file["iteration"][()].tolist() == list(range(written[-1]))


def test_a_lost_history_comes_back_from_the_parts(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    with h5py.File(run.history) as file:
        before = {name: file[name][()] for name in file}
    table = run.history.with_suffix(".csv").read_bytes()
    run.history.unlink()
    with logged() as lines:
        pipeline.distill(run)
    assert lines == []
    with h5py.File(run.history) as file:
        assert all(np.array_equal(file[name][()], before[name]) for name in before)
    assert run.history.with_suffix(".csv").read_bytes() == table
    assert not list(run.settings.runtime.work_dir.glob("distill-*/history.csv"))


def test_a_table_whose_history_is_lost_is_kept(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    pipeline.distill(run)
    table = run.history.with_suffix(".csv")
    before = table.read_bytes()
    shutil.rmtree(run.settings.runtime.work_dir)
    run.history.unlink()
    with logged() as lines:
        pipeline.distill(make_run(distill__iterations=8))
    assert any("history.csv tells of 6 iterations whose history is lost" in line for line in lines)
    assert any("the history of 6 of 8 iterations is lost" in line for line in lines)
    kept = list(run.settings.runtime.work_dir.glob("distill-*/history.csv"))
    assert [file.read_bytes() for file in kept] == [before]
    with h5py.File(run.history) as file:
        assert file["iteration"][()].tolist() == [6, 7]
