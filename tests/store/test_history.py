"""The history and its parts."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from attcli.store import history


def record(iteration: int) -> history.Record:
    l1 = np.full(3, iteration, np.float32)
    return history.Record(iteration, 0, 0, 2, 0.5, 0.01, 0.1, 1, l1, l1)


def test_history_is_put_together_from_overlapping_parts(tmp_path: Path) -> None:
    for begin, end in ((0, 4), (4, 6), (4, 9), (6, 12)):
        history.write_part(tmp_path, [record(i) for i in range(begin, end)])
    history.write_part(tmp_path, [record(4)])  # shorter than what is there: kept out
    for iterations in (3, 4, 8, 12):
        assert history.collect(tmp_path, iterations)["iteration"].tolist() == list(range(iterations))
    assert history.collect(tmp_path, 12)["l1"].shape == (12, 3)


def test_a_damaged_part_of_the_history_is_set_aside(tmp_path: Path) -> None:
    for begin, end in ((0, 4), (4, 6), (6, 9)):
        history.write_part(tmp_path, [record(i) for i in range(begin, end)])
    (tmp_path / "part-0000004.npz").write_text("no archive")
    assert history.collect(tmp_path, 9)["iteration"].tolist() == [0, 1, 2, 3, 6, 7, 8]
    assert (tmp_path / "part-0000004.npz.damaged").exists()


@pytest.mark.parametrize(("place", "bit"), [(6, 128), (8, 1)], ids=["a later version of zip", "encrypted"])
def test_a_flipped_bit_in_the_archive_of_a_part_is_damage_too(tmp_path: Path, place: int, bit: int) -> None:
    history.write_part(tmp_path, [record(0)])
    path = tmp_path / "part-0000000.npz"
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + place] ^= bit
    path.write_bytes(content)
    with pytest.raises(RuntimeError), zipfile.ZipFile(path) as archive:
        archive.testzip()
    assert not history.collect(tmp_path, 9)
    assert path.with_name("part-0000000.npz.damaged").exists()
