"""Compact experts: their rows against the formula written out, their waypoints, their size, and bad files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attcli.errors import UserError
from attcli.store import artefact, compact, experts
from tests.store.made import EXPERT, trajectory
from tests.store.test_experts import Counted

ABOUT = {**EXPERT, "layout": [["a", [20]], ["still", [5]], ["b", [5, 5]]]}
TENSORS = (slice(0, 20), slice(20, 25), slice(25, 50))


def walk(epochs: int) -> list[np.ndarray]:
    """An expert's rows: random steps of which some are longer, and a tensor that moves in the second half only."""
    random = np.random.default_rng(1)
    steps = random.standard_normal((epochs, 50)) * random.random((epochs, 1))
    steps[: epochs // 2, TENSORS[1]] = 0
    return [row.astype(np.float32) for row in np.vstack([random.random(50), steps]).cumsum(axis=0)]


def by_the_formula(rows: list[np.ndarray], waypoints: list[int], t: float) -> np.ndarray:
    """theta(t), tensor by tensor, in float64."""
    j = max(j for j in range(len(waypoints) - 1) if waypoints[j] <= t)
    begin, end = waypoints[j], waypoints[j + 1]
    row = np.empty(50)
    for part in TENSORS:
        path = [float(np.linalg.norm(rows[i + 1][part].astype(float) - rows[i][part])) for i in range(begin, end)]
        if sum(path) == 0:
            path = [1.0] * len(path)
        whole, rest = int(t) - begin, t - int(t)
        done = sum(path[:whole]) + (rest * path[whole] if rest else 0.0)
        row[part] = (1 - done / sum(path)) * rows[begin][part] + done / sum(path) * rows[end][part]
    return row


def written(folder: Path, rows: list[np.ndarray], waypoints: int) -> Path:
    """The file of a compact expert."""
    file, epochs = experts.path(folder, 0), len(rows) - 1
    whole = experts.Trajectory(rows, [1.0] * epochs, [50.0] * epochs)
    experts.write_compact(file, artefact.Header(experts.KIND, "e", {}, ABOUT), whole, waypoints)
    return file


@pytest.mark.parametrize(("count", "waypoints"), [(2, [0, 7]), (3, [0, 4, 7]), (8, list(range(8)))])
def test_rows_are_those_of_the_formula(tmp_path: Path, count: int, waypoints: list[int]) -> None:
    rows = walk(7)
    read = experts.read(written(tmp_path, rows, count))[1]
    with experts.open_experts(tmp_path, 1) as opened:
        assert (opened.compact, opened.epochs, read.epochs, len(read.parameters)) == (True, 7, 7, 8)
        for t in (0.0, 0.25, 3.0, 3.99, 4.0, 5.5, 6.999, 7.0):
            found = opened.rows(0, (t, 7))
            assert found.dtype == np.float32
            assert np.allclose(found[0], by_the_formula(rows, waypoints, t), rtol=1e-5, atol=1e-6)
            assert np.array_equal(found[1], rows[7])
        for epoch in range(8):
            assert np.array_equal(read.parameters[epoch], opened.rows(0, (epoch, epoch))[0])
            assert np.array_equal(read.parameters[epoch], rows[epoch]) == (epoch in waypoints)


def test_waypoints_are_those_of_the_released_commands() -> None:
    assert compact.waypoints_of(50, 4).tolist() == [0, 17, 34, 50]
    assert compact.waypoints_of(50, 2).tolist() == [0, 50]


def test_real_epochs_of_whole_experts_are_on_the_line_between_their_neighbours(tmp_path: Path) -> None:
    rows = walk(4)
    whole = experts.Trajectory(rows, [1.0] * 4, [50.0] * 4)
    experts.write(experts.path(tmp_path, 0), artefact.Header(experts.KIND, "e", {}, ABOUT), whole)
    with experts.open_experts(tmp_path, 1) as opened:
        found = opened.rows(0, (1.25, 4.0))
    assert np.allclose(found[0], 0.75 * rows[1] + 0.25 * rows[2])
    assert np.array_equal(found[1], rows[4])


def test_a_compact_expert_is_a_fraction_and_is_written_row_by_row(tmp_path: Path) -> None:
    about = {**EXPERT, "layout": [["weight", [20_000]]]}
    whole = trajectory(51, size=20_000)
    header = artefact.Header(experts.KIND, "e", {}, about)
    experts.write(tmp_path / "whole.h5", header, whole)
    experts.write_compact(tmp_path / "compact.h5", header, whole, 4)
    sizes = [(tmp_path / name).stat().st_size for name in ("whole.h5", "compact.h5")]
    assert 11 < sizes[0] / sizes[1] < 51 / 4
    rows = Counted(30)
    experts.write_compact(
        tmp_path / "b.h5", replace(header, about=EXPERT), experts.Trajectory(rows, [1.0] * 29, [5.0] * 29), 4
    )
    assert rows.most <= 3


def test_the_digest_of_compact_experts_tells_their_ways_apart(tmp_path: Path) -> None:
    rows = walk(6)
    other = [*rows[:1], rows[2], rows[1], *rows[3:]]
    digests = set()
    for name, some, count in (("a", rows, 2), ("b", other, 2), ("c", rows, 3)):
        written(tmp_path / name, some, count)
        with experts.open_experts(tmp_path / name, 1) as opened:
            digests.add(opened.digest(3))
    assert len(digests) == 3


SPOILT = {
    "in reverse": ("positions", lambda numbers: numbers[::-1].copy()),
    "not finite": ("positions", lambda numbers: numbers * np.nan),
    "short": ("positions", lambda numbers: numbers.astype(np.float32)),
    "backwards": ("waypoints", lambda numbers: numbers[::-1].copy()),
    "unsigned": ("waypoints", lambda numbers: np.array([0, 9, 5], np.uint64)),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_way_that_is_none_is_refused(tmp_path: Path, how: str) -> None:
    rows = walk(5)
    way = compact.way_of(rows, (20, 5, 25), 3)
    arrays = {"waypoints": way.waypoints, "positions": way.positions}
    name, spoil = SPOILT[how]
    arrays[name] = spoil(arrays[name])
    file = experts.path(tmp_path, 0)
    whole = experts.Trajectory(rows, [1.0] * 5, [50.0] * 5)
    experts._write(file, artefact.Header(experts.KIND, "e", {}, ABOUT), whole, [rows[0], rows[3], rows[5]], arrays)
    for read in (experts.read, lambda path: experts.Experts([path])):
        with pytest.raises(UserError, match=r"its (positions|waypoints) .*are.*run `attcli buffer`"):
            read(file)
