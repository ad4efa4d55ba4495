"""The diagnosis of a run, from a history that is written here by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attcli.stages import diagnose
from attcli.store import history
from attcli.store.artefact import Header

L1 = np.array([[3, 2, 1, 2], [3, 1, 1, 4], [np.nan] * 4, [1, np.inf, np.nan, 5], [4, 3, 2, 1]], np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A history of five iterations of four steps, of a run that selects by L2."""
    path = tmp_path / "history.h5"
    header = Header(history.KIND, "f", {"distill": {"select_metric": "l2"}}, {"method": "att", "iterations": 5})
    arrays = {
        "loss": np.zeros(5),
        "lr": np.zeros(5),
        "l1": L1,
        "l2": L1[:, ::-1].copy(),
        "iteration": np.arange(5),
        "step": np.full(5, 4),
    }
    history.write(path, header, arrays)
    return path


def test_the_nearest_step_is_the_later_of_equals_and_none_where_nothing_is_finite(file: Path) -> None:
    found = diagnose.read(file, "l1", [1], 5).matched["nearest"]
    assert found.tolist() == [3, 3, 0, 1, 4]


def test_mismatches_are_counted_in_blocks_of_which_the_last_may_be_short(file: Path) -> None:
    mismatches = diagnose.read(file, "l1", [1, 2, 4], 2).mismatches
    assert {name: column.tolist() for name, column in mismatches.items()} == {
        "first_iteration": [0, 2, 4],
        "iterations": [2, 2, 1],
        "gamma_1": [2, 2, 0],
        "gamma_2": [0, 2, 0],
        "gamma_4": [0, 1, 0],
    }
    whole = diagnose.read(file, "l1", [1], 50).mismatches
    assert (whole["iterations"].tolist(), whole["gamma_1"].tolist()) == ([5], [4])


def test_the_metric_is_the_runs_own_unless_another_is_asked_for(file: Path) -> None:
    assert diagnose.read(file, None, [1], 5).metric == "l2"
    assert diagnose.read(file, None, [1], 5).matched["nearest"].tolist() == [2, 3, 0, 4, 1]


def test_the_mean_leaves_out_what_is_not_finite(file: Path) -> None:
    found = diagnose.read(file, "l1", [1], 5).distances
    assert found["mean"].tolist() == pytest.approx([11 / 4, 2, 4 / 3, 3])
    assert found["iteration_4"].tolist() == [4, 3, 2, 1]


def test_the_mean_of_a_step_that_is_never_finite_is_none_and_no_warning(file: Path) -> None:
    header = Header(history.KIND, "f", {"distill": {"select_metric": "l1"}}, {"method": "att", "iterations": 2})
    never = np.array([[2, np.nan], [4, np.inf]], np.float32)
    history.write(file, header, {"l1": never, "l2": never, "iteration": np.arange(2), "step": np.full(2, 1)})
    mean = diagnose.read(file, None, [1], 5).distances["mean"]
    assert mean[0] == 3
    assert np.isnan(mean[1])


def test_sentences_say_what_the_tables_show(file: Path) -> None:
    assert diagnose.read(file, "l1", [1, 3], 5).sentences == [
        "the nearest step was the last of 4 in 25.0 % of 4 iterations, and on average step 2.8",
        "it came 1 or more steps before the last in 75.0 %",
        "it came 3 or more steps before the last in 25.0 %",
        "the matched step was the nearest in 25.0 %",
        "iterations without any finite distance to the target: 1",
    ]


def test_steps_that_patience_left_out_are_said(file: Path) -> None:
    settings = {"distill": {"select_metric": "l1", "patience": 1}}
    header = Header(history.KIND, "f", settings, {"method": "att", "iterations": 2})
    ended = np.array([[2, 1, 3, np.nan], [4, 3, 2, 1]], np.float32)
    history.write(file, header, {"l1": ended, "l2": ended, "iteration": np.arange(2), "step": np.array([2, 4])})
    assert diagnose.read(file, None, [1], 5).sentences[-2:] == [
        "the matched step was the nearest in 100.0 %",
        "patience (1) ended the student's training after 3.5 of 4 steps on average; later steps are not counted",
    ]


def lines(table: str, columns: diagnose.Columns) -> dict[str, Any]:
    """What a figure draws, by label, from bottom to top."""
    axes = diagnose._figure(table, next(iter(columns)), columns, ("", "", "")).axes[0]
    return {artist.get_label(): artist for artist in (*axes.lines, *axes.patches)}


def test_lines_on_each_other_all_show(file: Path) -> None:
    diagnosis = diagnose.read(file, "l1", [3, 4], 5)
    drawn = [list(lines(name, getattr(diagnosis, name)).values()) for name in ("mismatches", "matched")]
    for below, above in drawn:
        assert below.get_linewidth() > above.get_linewidth()
        assert below.get_linestyle() in ("-", "solid")
        assert above.get_linestyle() in ("--", "dashed")
    assert [artist.get_label() for artist in drawn[1]] == ["matched", "nearest"]


def test_the_mean_is_black_and_the_last_block_ends_with_the_run(file: Path) -> None:
    diagnosis = diagnose.read(file, "l1", [1], 2)
    assert lines("distances", diagnosis.distances)["mean"].get_color() == "black"
    assert lines("mismatches", diagnosis.mismatches)["gamma 1"].get_data().edges.tolist() == [0, 2, 4, 5]
