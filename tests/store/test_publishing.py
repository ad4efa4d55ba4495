"""Publishing: what is among the results is replaced by the same identity only."""

import os
from pathlib import Path

import numpy as np
import pytest

from attcli.errors import UserError
from attcli.store import artefact
from attcli.store.publishing import publish


def written(path: Path, fingerprint: str, value: float = 0.0) -> Path:
    artefact.write(path, artefact.Header("thing", fingerprint, {}, {}), {"x": np.full(3, value)})
    return path


def test_a_target_of_another_fingerprint_is_refused_and_stays(tmp_path: Path) -> None:
    source, target = written(tmp_path / "work" / "a.h5", "abc"), written(tmp_path / "out" / "a.h5", "def")
    before = target.read_bytes()
    with pytest.raises(
        UserError,
        match=r"a\.h5 was made with other settings \(its fingerprint is def, not abc\); --force overwrites it",
    ):
        publish(source, target)
    assert target.read_bytes() == before
    publish(source, target, force=True)
    assert os.path.samefile(source, target)


def test_a_target_of_the_same_fingerprint_is_replaced(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.h5", "abc", 1.0), written(tmp_path / "out.h5", "abc", 2.0)
    publish(source, target)
    assert os.path.samefile(source, target)


def test_a_target_that_is_no_artefact_is_refused_and_stays(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.h5", "abc"), tmp_path / "notes.h5"
    target.write_text("my notes")
    with pytest.raises(UserError, match=r"notes\.h5 is damaged, or no file of attcli"):
        publish(source, target)
    assert target.read_text() == "my notes"
