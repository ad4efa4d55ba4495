"""The diagnosis of a run, from a history that is written here by hand."""

from pathlib import Path

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
    arrays = {"l1": L1, "l2": L1[:, ::-1].copy(), "iteration": np.arange(5), "step": np.full(5, 4)}
    history.write(path, header, arrays)
    return path


def test_the_nearest_step_is_the_later_of_equals_and_none_where_nothing_is_finite(file: Path) -> None:
    found = diagnose.read(file, "l1", [1], 5).matched["nearest"]
    assert found.tolist() == [3, 3, 0, 1, 4]


def test_mismatches_are_counted_in_whole_blocks(file: Path) -> None:
    found = diagnose.read(file, "l1", [1, 2, 4], 2).mismatches
    assert {name: column.tolist() for name, column in found.items()} == {
        "first_iteration": [0, 2],
        "gamma_1": [2, 2],
        "gamma_2": [0, 2],
        "gamma_4": [0, 1],
    }
    assert diagnose.read(file, "l1", [1], 50).mismatches["gamma_1"].tolist() == [4]


def test_the_metric_is_the_runs_own_unless_another_is_asked_for(file: Path) -> None:
    assert diagnose.read(file, None, [1], 5).metric == "l2"
    assert diagnose.read(file, None, [1], 5).matched["nearest"].tolist() == [2, 3, 0, 4, 1]


def test_the_mean_leaves_out_what_is_not_finite(file: Path) -> None:
    found = diagnose.read(file, "l1", [1], 5).distances
    assert found["mean"].tolist() == pytest.approx([11 / 4, 2, 4 / 3, 3])
    assert found["iteration_4"].tolist() == [4, 3, 2, 1]
