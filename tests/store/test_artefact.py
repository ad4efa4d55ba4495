"""Artefacts: complete or absent, and checked."""

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from attcli.errors import DamagedError, UserError
from attcli.store import artefact, synthetic

HEADER = artefact.Header("thing", "abc", {"a": 1}, {"b": 2}, {"torch": "x"})

ARRAYS = {"x": np.arange(6.0).reshape(2, 3), "y/z": np.array([1, 2])}


def test_round_trip(tmp_path: Path) -> None:
    artefact.write(tmp_path / "a.h5", HEADER, ARRAYS)
    header, arrays = artefact.read(tmp_path / "a.h5", "thing", "maker")
    assert (header.fingerprint, header.settings, header.about) == ("abc", {"a": 1}, {"b": 2})
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        artefact.write(tmp_path / name, HEADER, dict(reversed(ARRAYS.items())) if name == "b" else ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("keep", [0, 10, 100, 2000, -1])
def test_a_file_cut_short_is_told_as_such(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.h5"
    artefact.write(path, HEADER, {"x": np.arange(5000.0)})
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    with pytest.raises(UserError, match=r"a\.h5 is damaged or cut short .*move it elsewhere and run `maker`"):
        artefact.read(path, "thing", "maker")


def test_a_changed_value_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    artefact.write(path, HEADER, ARRAYS)
    with h5py.File(path, "r+") as file:
        file["x"][0, 0] = 7
    with pytest.raises(UserError, match="its seal is missing"):
        artefact.read(path, "thing", "maker")


def test_other_kinds_and_missing_files(tmp_path: Path) -> None:
    artefact.write(tmp_path / "a.h5", HEADER, ARRAYS)
    with pytest.raises(UserError, match="is a file of kind 'thing', not 'dataset'"):
        artefact.read(tmp_path / "a.h5", "dataset", "maker")
    with pytest.raises(UserError, match=r"b\.h5 is missing; run `maker`"):
        artefact.read(tmp_path / "b.h5", "thing", "maker")


def test_fingerprints_depend_on_everything_that_they_hash() -> None:
    base = ("stage", 1, {"a": 1}, {"i": "x"})
    others = [
        ("other", *base[1:]),
        ("stage", 2, *base[2:]),
        ("stage", 1, {"a": 2}, {"i": "x"}),
        (*base[:3], {"i": "y"}),
    ]
    found = {artefact.fingerprint(*case) for case in [base, *others]}
    assert len(found) == 5
    assert artefact.fingerprint(*base) == artefact.fingerprint("stage", 1, {"a": 1}, {"i": "x"})


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    artefact.write(path, HEADER, ARRAYS)
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged or cut short|is no file of attcli"):
            artefact.header(path, "thing", "maker")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), "Stale file handle"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error"),
        (MemoryError(), "too little memory"),
    ],
)
@pytest.mark.parametrize("place", ["sealed", "read"])
def test_what_cannot_be_read_now_does_not_count_as_damaged(
    error: Exception, words: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    artefact.write(path, HEADER, ARRAYS)

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(artefact.hdf5, place, failing)
    with pytest.raises(UserError, match=words) as raised:
        artefact.read(path, "thing", "maker")
    assert not isinstance(raised.value, DamagedError)


def test_a_set_of_the_first_schema_is_read_on() -> None:
    kept = synthetic.read(Path(__file__).with_name("schema1-synthetic.h5"))
    assert kept.about["dataset"] == "digits"
    assert {kind: images.shape for kind, images in kept.variants.items()} == {
        "synthetic": (10, 1, 8, 8),
        "ema": (10, 1, 8, 8),
    }
    assert kept.labels.tolist() == list(range(10))
    assert kept.lr == pytest.approx(0.0100174, rel=1e-4)
    assert kept.normaliser is not None
