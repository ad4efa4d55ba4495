"""Compact experts through the stages: made while training, of experts that are there, and of imported ones."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attcli.errors import UserError
from attcli.stages import compacting, identity, inputs, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, experts, history
from tests.conftest import Cli
from tests.interchange import released
from tests.test_cli import refused

MakeRun = Callable[..., Run]
COMPACT = {"buffer__waypoints": 3, "distill__start_epochs": "real", "network__width": 4}
SETS = ("--set", "buffer.waypoints=2", "--set", "distill.start_epochs=real")


def test_distilling_reads_compact_experts_at_real_epochs(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(**COMPACT, distill__iterations=3)
    assert (run.settings.matched_epochs, make_run(network__width=4).settings.matched_epochs) == (4, 3)
    pipeline.distill(run)
    files = experts.present(run.experts)
    whole = make_run(
        tmp_path / "whole", network__width=4, buffer__epochs=4, runtime__work_dir=str(tmp_path / ".attcli")
    )
    pipeline.buffer(whole)
    for compact_file, file in zip(files, experts.present(whole.experts), strict=True):
        kept, rows = experts.read(compact_file)[1], experts.read(file)[1].parameters
        assert len(kept.parameters) == 5
        assert all(np.array_equal(kept.parameters[epoch], rows[epoch]) for epoch in (0, 2, 4))
    _, arrays = artefact.read(run.history, history.KIND, history.MAKER)
    starts = arrays["start_epoch"]
    assert starts.dtype == np.float64
    assert ((starts >= 0) & (starts < 2) & (starts != starts.round())).all()
    assert np.isfinite(arrays["loss"]).all()
    before = [file.stat().st_mtime_ns for file in files]
    pipeline.buffer(run)
    assert [file.stat().st_mtime_ns for file in files] == before
    with pytest.raises(UserError, match=r"buffer\.waypoints is 3 there, null asked for"):
        pipeline.buffer(make_run(network__width=4, buffer__epochs=4))


def test_experts_that_are_there_become_the_same_compact_ones(make_run: MakeRun, tmp_path: Path) -> None:
    changes = {"network__width": 4, "buffer__epochs": 4, "runtime__work_dir": str(tmp_path / ".attcli")}
    whole = make_run(tmp_path / "whole", **changes)
    pipeline.buffer(whole)
    trained = make_run(tmp_path / "trained", **changes, buffer__waypoints=3)
    pipeline.buffer(trained)
    made = make_run(tmp_path / "made", **changes, buffer__waypoints=3)
    said = compacting.run(made, whole.experts, 3)
    assert said == "distil from them with --experts 2 --set buffer.waypoints=3 --set buffer.epochs=4"
    for one, other in zip(experts.present(trained.experts), experts.present(made.experts), strict=True):
        assert one.read_bytes() == other.read_bytes()
    for waypoints, problem in ((6, "more than the 5 networks"), (2, "made with other settings.*buffer.waypoints is 3")):
        with pytest.raises(UserError, match=problem):
            compacting.run(made, whole.experts, waypoints)
    with pytest.raises(UserError, match="is a compact expert already"):
        compacting.run(make_run(tmp_path / "twice", **changes), made.experts, 2)
    with pytest.raises(UserError, match="is where the compact experts would go"):
        compacting.run(whole, whole.experts, 3)


def test_more_epochs_make_compact_experts_anew(make_run: MakeRun) -> None:
    pipeline.buffer(make_run(**COMPACT, buffer__experts=1))
    longer = make_run(**COMPACT, buffer__experts=1, buffer__epochs=5)
    pipeline.buffer(longer)
    assert experts.epochs_of(experts.path(longer.experts, 0)) == 5
    data = inputs.read_dataset(longer)
    folder = longer.work("buffer", identity.buffer(identity.whole_experts(longer.settings), data.sha256)[0])
    assert experts.epochs_of(experts.path(folder, 0)) == 5  # the four that were there, and one more


def test_longer_compact_experts_are_not_trained_anew_unasked(make_run: MakeRun, tmp_path: Path) -> None:
    longer = make_run(**COMPACT, buffer__experts=1, buffer__epochs=5)
    pipeline.buffer(longer)
    shutil.rmtree(longer.settings.runtime.work_dir)
    file = experts.path(longer.experts, 0)
    kept = file.read_bytes()
    with pytest.raises(UserError, match=r"is a compact expert of 5 epochs, and 4 are asked for.* buffer\.epochs=5"):
        pipeline.buffer(make_run(**COMPACT, buffer__experts=1, buffer__epochs=4))
    assert file.read_bytes() == kept
    pipeline.buffer(make_run(**COMPACT, buffer__experts=1, buffer__epochs=5))
    assert file.read_bytes() == kept


def test_imported_experts_become_compact(cli: Cli) -> None:
    released.buffers(Path("buffers"))
    flags = cli.small("import", "buffers", *SETS).removeprefix("distil from them with").split()
    assert flags[-1] == "buffer.waypoints=2"
    with experts.open_experts(Path("artifacts/experts"), 4) as opened:
        assert (opened.compact, opened.epochs) == (True, 3)
    cli.small("distill", *flags, *SETS[2:], "--set", "distill.max_start_epoch=1")
    said = refused(cli, "export", "--to", "released-experts")
    assert "holds compact experts" in said
    for file in experts.present(Path("artifacts/experts")):
        file.unlink()
    cli.small("buffer", *flags, *SETS[2:], "--set", "distill.max_start_epoch=1")
    assert len(experts.present(Path("artifacts/experts"))) == 4


def test_more_waypoints_than_networks_are_refused(cli: Cli) -> None:
    said = refused(cli, "buffer", "--set", "buffer.waypoints=9", small=True)
    assert "buffer.waypoints 9 is more than the 4 networks of an expert of 3 epochs; lower it" in said
