"""Experts that are being trained: every row that was saved counts, and nothing that is torn."""

import os
from pathlib import Path

import numpy as np
import pytest

from attcli.store.experts import Trajectory
from attcli.store.growing import Growing
from tests.store.made import trajectory


def growing(folder: Path, *, momentum: bool = False) -> Growing:
    return Growing(folder / "expert-0000.h5", np.dtype("float32"), momentum=momentum)


def test_an_epoch_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = trajectory(40, size=1000).parameters
    expert, sizes = growing(tmp_path), []
    for i, row in enumerate(rows):
        before = sum(file.stat().st_size for file in tmp_path.iterdir())
        expert.append(row, 1.0 if i else None, 50.0 if i else None)
        sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()) - before)
    assert max(sizes) < 4000 + 300
    again = growing(tmp_path)
    assert again.epochs == 39
    assert all(np.array_equal(a, b) for a, b in zip(again.trajectory().parameters, rows, strict=True))


@pytest.mark.parametrize("cut", [1, 100, 399, 401])
def test_a_torn_row_is_cut_off(tmp_path: Path, cut: int) -> None:
    rows = trajectory(4, size=100).parameters
    expert = growing(tmp_path)
    for i, row in enumerate(rows):
        expert.append(row, 1.0 if i else None, 50.0 if i else None)
    os.truncate(tmp_path / "expert-0000.rows", 1600 - cut)
    again = growing(tmp_path)
    assert again.epochs == (2 if cut < 400 else 1)
    again.append(rows[again.epochs + 1], 1.0, 50.0)
    assert np.array_equal(growing(tmp_path).trajectory().parameters[-1], rows[again.epochs])


def test_a_row_whose_loss_the_disk_changed_is_cut_off(tmp_path: Path) -> None:
    expert = growing(tmp_path)
    for i, row in enumerate(trajectory(4, size=100).parameters):
        expert.append(row, 1.0 + i if i else None, 50.0 if i else None)
    index = tmp_path / "expert-0000.jsonl"
    index.write_text(index.read_text().replace('"loss": 3.0', '"loss": 7.0'))
    assert growing(tmp_path).epochs == 1


def test_the_momentum_belongs_to_the_last_row(tmp_path: Path) -> None:
    rows = trajectory(4, size=100).parameters
    expert = growing(tmp_path, momentum=True)
    expert.append(rows[0], None, None)
    for row in rows[1:]:
        expert.append(row, 1.0, 50.0, velocity=row + 1)
    assert np.array_equal(growing(tmp_path, momentum=True).trajectory().velocity, rows[3] + 1)
    # Killed after the momentum was saved, before its row was: the row before it has the momentum before it.
    os.truncate(tmp_path / "expert-0000.rows", 1200)
    again = growing(tmp_path, momentum=True)
    assert again.epochs == 2
    assert np.array_equal(again.trajectory().velocity, rows[2] + 1)


def test_a_row_without_its_momentum_does_not_count(tmp_path: Path) -> None:
    rows = trajectory(5, size=100).parameters
    expert = growing(tmp_path, momentum=True)
    expert.append(rows[0], None, None)
    for row in rows[1:]:
        expert.append(row, 1.0, 50.0, velocity=row + 1)
    (tmp_path / "expert-0000.velocity-4").write_bytes(b"torn")
    again = growing(tmp_path, momentum=True)
    assert again.epochs == 3
    assert np.array_equal(again.trajectory().velocity, rows[3] + 1)
    (tmp_path / "expert-0000.velocity-3").unlink()
    assert growing(tmp_path, momentum=True).epochs == 0  # nothing has its momentum: trained again from the start


def test_momentum_of_another_row_is_not_taken(tmp_path: Path) -> None:
    rows = trajectory(4, size=100).parameters
    expert = growing(tmp_path, momentum=True)
    for number, row in enumerate(rows[:3]):
        expert.append(row, 1.0, 50.0, velocity=row + 1 if number else None)
    expert.remove()
    assert [file.name for file in tmp_path.iterdir()] == ["expert-0000.velocity-2"]
    foreign = Trajectory([rows[0], rows[2], rows[1]], [1.0, 1.0], [50.0, 50.0])
    expert = growing(tmp_path, momentum=True)
    assert expert.continue_from(foreign) == 0
    assert (expert.epochs, expert.trajectory().velocity) == (0, None)
    own = Trajectory(rows[:3], [1.0, 1.0], [50.0, 50.0])
    assert expert.continue_from(own) == 2
    assert np.array_equal(expert.trajectory().velocity, rows[2] + 1)


def test_a_row_is_on_the_disk_before_its_line_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expert, synced, real = growing(tmp_path), [], os.fsync

    def fsync(handle: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{handle}")).suffix, lines()))
        real(handle)

    def lines() -> int:
        return (tmp_path / "expert-0000.jsonl").read_bytes().count(b"\n")

    monkeypatch.setattr(os, "fsync", fsync)
    for number, row in enumerate(trajectory(2, size=100).parameters):
        synced.clear()
        expert.append(row, 1.0, 50.0)
        assert synced == [(".rows", number), (".jsonl", number + 1)]


@pytest.mark.parametrize("block", [1, 64, 400])
def test_a_tail_of_zeros_after_a_power_cut_is_cut_off(tmp_path: Path, block: int) -> None:
    rows = trajectory(4, size=100).parameters
    expert = growing(tmp_path)
    for number, row in enumerate(rows):
        expert.append(row, 1.0 if number else None, 50.0 if number else None)
    with (tmp_path / "expert-0000.rows").open("r+b") as file:  # the size reached the disk, the numbers did not
        file.seek(1600 - block)
        file.write(bytes(block))
    again = growing(tmp_path)
    assert again.epochs == 2
    again.append(rows[3], 1.0, 50.0)
    whole = growing(tmp_path).trajectory()
    assert all(np.array_equal(a, b) for a, b in zip(whole.parameters, rows, strict=True))
