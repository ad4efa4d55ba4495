"""Scores of snapshots: which are scored, on which images, and which one is selected."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attcli.errors import UserError
from attcli.stages import evaluate, forecast, pipeline
from attcli.stages.run import Run
from attcli.store import dataset, states
from tests.stages.observed import logged

MakeRun = Callable[..., Run]


def test_snapshots_are_scored_on_validation(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    pipeline.distill(run)
    report = pipeline.evaluate_snapshots(run)
    assert [row["iteration"] for row in report["snapshots"]] == [2, 4, 6]
    assert {row["split"] for row in report["snapshots"]} == {"validation"}
    assert report["last"]["iteration"] == 6
    assert report["last"]["split"] == "test"
    scores = pipeline.evaluate(run)["scores"]["convnet"]
    assert report["last"]["scores"]["convnet"] == {
        kind: {name: scores[kind][name] for name in ("mean", "sd", "n", "accuracies")} for kind in ("synthetic", "ema")
    }
    selected = report["selected"]["convnet"]["synthetic"]
    best = max(report["snapshots"], key=lambda row: row["scores"]["convnet"]["synthetic"]["mean"])
    assert selected["iteration"] == best["iteration"]
    for kind, entry in report["selected"]["convnet"].items():
        tested = evaluate.row(run, states.path_of(run.snapshots, entry["iteration"]), "test")
        assert entry == {"iteration": tested["iteration"], **tested["scores"]["convnet"][kind]}
        (judged,) = [row for row in report["snapshots"] if row["iteration"] == entry["iteration"]]
        assert entry["accuracies"] != judged["scores"]["convnet"][kind]["accuracies"]
    assert "literature_maximum" not in report
    assert report["set"]["iteration"] == 6
    about = json.loads((tmp_path / "artifacts" / "scores-about.json").read_text())
    assert json.loads(json.dumps(report["protocol"])) == about["protocol"]  # of the set, which is the last snapshot
    assert pipeline.evaluate_snapshots(make_run()) == report


def test_the_literatures_maximum_is_over_tests_and_labelled(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "none", prepare__validation=0)
    pipeline.distill(run)
    report = pipeline.evaluate_snapshots(run, literature=True)
    assert "selected" not in report
    assert [(row["iteration"], row["split"]) for row in report["tests"]] == [(2, "test"), (4, "test"), (6, "test")]
    for kind in ("synthetic", "ema"):
        found = report["literature_maximum"]["convnet"][kind]
        assert found["mean"] == max(row["scores"]["convnet"][kind]["mean"] for row in report["tests"])
        (row,) = [row for row in report["tests"] if row["iteration"] == found["iteration"]]
        assert found == {"iteration": row["iteration"], **row["scores"]["convnet"][kind]}


def test_without_validation_no_snapshot_is_selected(make_run: MakeRun) -> None:
    run = make_run(prepare__validation=0)
    pipeline.distill(run)
    with logged() as lines:
        assert set(pipeline.evaluate_snapshots(run)) == {"protocol", "set", "last"}
    assert "has no validation images, so that none is selected" in lines[0]


def test_snapshots_are_not_scored_with_images_that_may_be_in_them(make_run: MakeRun) -> None:
    pipeline.distill(make_run(prepare__validation=0))
    later = make_run(prepare__validation=100, force=True)
    pipeline.prepare(later)
    with pytest.raises(UserError, match=r"was distilled from other images than those in .*dataset\.h5"):
        pipeline.evaluate_snapshots(later)


@pytest.mark.parametrize("changes", [{"distill__lr_img": 2.0}, {"prepare__validation": 50}])
def test_snapshots_of_other_settings_than_asked_for_are_refused(make_run: MakeRun, changes: dict[str, Any]) -> None:
    pipeline.distill(make_run())
    asked = make_run(**changes)
    with pytest.raises(UserError, match=r"iteration-0000006\.h5 was distilled with other settings") as raised:
        pipeline.evaluate_snapshots(asked)
    with pytest.raises(UserError, match=re.escape(str(raised.value))):
        forecast.forecast(asked, ("evaluate",), forecast.Target(snapshots=True))


def test_snapshots_read_the_dataset_once(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    pipeline.distill(run)
    reads: list[Path] = []
    real_read = dataset.read
    monkeypatch.setattr(dataset, "read", lambda path: (reads.append(path), real_read(path))[1])
    pipeline.evaluate_snapshots(run, literature=True)
    assert len(reads) == 1


def test_a_snapshot_is_a_set_too(make_run: MakeRun) -> None:
    run = make_run()
    scores = pipeline.evaluate(run)["scores"]
    assert pipeline.evaluate(run, states.snapshots(run.snapshots)[-1])["scores"] == scores


def test_snapshots_beyond_the_asked_iterations_and_foreign_ones_are_no_results(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    later = run.snapshots / "iteration-0000006.h5"
    pipeline.distill(make_run(distill__iterations=4))
    assert not later.exists()
    assert pipeline.evaluate_snapshots(make_run(distill__iterations=4))["last"]["iteration"] == 4
    pipeline.distill(run)
    assert later.exists()
    run.synthetic.unlink()
    with pytest.raises(UserError, match=r"0002\.h5 was made with other settings \(distill\.lr_img is 1\.0"):
        pipeline.distill(make_run(distill__lr_img=2.0))
    assert later.exists()
