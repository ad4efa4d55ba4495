"""Finished experts: read row by row, each row checked."""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attcli.errors import UserError
from attcli.store import artefact, experts
from tests.store.made import EXPERT, trajectory


def test_experts_by_row(tmp_path: Path) -> None:
    header = artefact.Header(experts.KIND, "e", {}, EXPERT)
    for i, rows in enumerate((5, 4)):
        experts.write(experts.path(tmp_path, i), header, trajectory(rows))
    opened = experts.open_experts(tmp_path, 2)
    assert opened.epochs == 3
    assert np.array_equal(opened.rows(0, (1, 3)), np.stack(trajectory(5).parameters)[[1, 3]])
    opened.close()
    with pytest.raises(UserError, match="1 of 3 experts are missing"):
        experts.open_experts(tmp_path, 3)


def test_an_experts_digest_is_that_of_its_first_part(tmp_path: Path) -> None:
    header = artefact.Header(experts.KIND, "e", {}, EXPERT)
    for name, rows in (("a", 4), ("b", 6)):
        experts.write(experts.path(tmp_path / name, 0), header, trajectory(rows))
    short, long = (experts.open_experts(tmp_path / name, 1) for name in "ab")
    assert short.digest(3) == long.digest(3)
    assert long.digest(4) != long.digest(3)
    short.close()
    long.close()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    finite = trajectory(4)
    rows = [row.copy() for row in finite.parameters]
    rows[2][0] = value
    file = experts.path(tmp_path, 0)
    experts.write(file, artefact.Header(experts.KIND, "e", {}, EXPERT), replace(finite, parameters=rows))
    opened = experts.open_experts(tmp_path, 1)
    opened.rows(0, (0, 3))
    for read in (lambda: experts.read(file), lambda: opened.rows(0, (0, 2)), lambda: opened.mapped(0)):
        with pytest.raises(UserError, match=r"holds parameters that are not finite.*run `attcli buffer`"):
            read()
    opened.close()


def test_two_rows_are_read_without_reading_the_file(tmp_path: Path) -> None:
    header = artefact.Header(experts.KIND, "e", {}, {**EXPERT, "layout": [["weight", [100_000]]]})
    experts.write(experts.path(tmp_path, 0), header, trajectory(40, size=100_000))
    opened = experts.open_experts(tmp_path, 1)

    def bytes_read() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(lines[0].split()[1])

    before = bytes_read()
    opened.rows(0, (3, 30))
    assert bytes_read() - before < 3 * 400_000
    opened.close()


def test_a_damaged_row_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    header = artefact.Header(experts.KIND, "e", {}, {**EXPERT, "layout": [["weight", [1000]]]})
    path = experts.path(tmp_path, 0)
    experts.write(path, header, trajectory(3, size=1000))
    row = trajectory(3, size=1000).parameters[1].tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(row) + 100] ^= 1
    path.write_bytes(bytes(data))
    opened = experts.open_experts(tmp_path, 1)
    opened.rows(0, (0, 2))
    with pytest.raises(UserError, match="damaged"):
        opened.rows(0, (0, 1))
    opened.close()


class Counted(Sequence):
    """Rows that are made when they are asked for; `most` is how many of them were alive at once."""

    def __init__(self, count: int) -> None:
        self.count, self.alive, self.most = count, 0, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        row = np.full(50, index, np.float32)
        weakref.finalize(row, self._gone)
        self.alive += 1
        self.most = max(self.most, self.alive)
        return row

    def _gone(self) -> None:
        self.alive -= 1


def test_the_first_part_of_an_expert_is_written_with_two_rows_at_a_time(tmp_path: Path) -> None:
    rows = Counted(30)
    whole = experts.Trajectory(rows, [1.0] * 29, [50.0] * 29)
    experts.write(tmp_path / "a.h5", artefact.Header(experts.KIND, "e", {}, EXPERT), whole.first(20))
    assert rows.most <= 2
    kept = experts.read(tmp_path / "a.h5")[1]
    assert kept.epochs == len(kept.loss) == 20
    assert [row[0] for row in kept.parameters] == list(range(21))


def test_an_expert_is_written_without_its_momentum(tmp_path: Path) -> None:
    header, plain = artefact.Header(experts.KIND, "e", {}, EXPERT), trajectory(3)
    experts.write(tmp_path / "a.h5", header, plain)
    experts.write(tmp_path / "b.h5", header, replace(plain, velocity=plain.parameters[0]))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
