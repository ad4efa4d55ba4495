"""Archives of arrays in work folders."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from attcli.store import npz
from attcli.store.hdf5 import BadFileError


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path, arrays = tmp_path / "a.npz", {"theta": np.arange(7, dtype=np.float32), "forgotten": np.arange(3)}
    np.savez(path, **arrays)
    content = path.read_bytes()
    unnoticed = 0
    for place in range(len(content)):
        for bit in (0, 6):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            try:
                read = npz.read(path)
            except BadFileError:
                continue
            unnoticed += 1
            assert {name: array.tolist() for name, array in read.items()} == {n: a.tolist() for n, a in arrays.items()}
    assert unnoticed < len(content)  # times, versions and other facts of zip that nobody reads


def test_what_cannot_be_opened_does_not_count_as_damaged(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        npz.read(tmp_path)


def test_what_cannot_be_read_now_does_not_count_as_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(3))

    def gone(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(npz.zipfile, "ZipFile", gone)
    with pytest.raises(OSError, match="Stale"):
        npz.read(tmp_path / "a.npz")
