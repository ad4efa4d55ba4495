"""HDF5 that was made to harm, and files that are something else: refused in one line before anything is read."""

import os
import signal
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from attcli.errors import UserError
from attcli.store import hdf5, synthetic


def hostile(tmp_path: Path, change: Callable[[h5py.File], None]) -> Path:
    """A set of the first schema (which has no seal) after a change."""
    target = tmp_path / "set.h5"
    target.write_bytes(Path(__file__).parents[1].joinpath("store", "schema1-synthetic.h5").read_bytes())
    with h5py.File(target, "r+") as file:
        change(file)
    return target


def _external(file: h5py.File) -> None:
    del file["images"]
    Path(file.filename).with_name("secret.bin").write_bytes(bytes(2560))
    file.create_dataset("images", (10, 1, 8, 8), "f4", external=[("secret.bin", 0, 2560)])


def _virtual(file: h5py.File) -> None:
    del file["images"]
    layout = h5py.VirtualLayout((10, 1, 8, 8), "f4")
    layout[...] = h5py.VirtualSource(file.filename, "ema", (10, 1, 8, 8))
    file.create_virtual_dataset("images", layout)


def _soft(file: h5py.File) -> None:
    del file["images"]
    file["images"] = h5py.SoftLink("/ema")


def _outside(file: h5py.File) -> None:
    del file["images"]
    file["images"] = h5py.ExternalLink("other.h5", "/ema")


def _bomb(file: h5py.File) -> None:
    del file["images"]
    file.create_dataset("images", (10, 1, 8, 8), "f4", chunks=(10, 1, 8, 8), compression="gzip")


def _huge(file: h5py.File) -> None:
    del file["images"]
    file.create_dataset("images", (300_000, 1, 64, 64), "f4", chunks=(1, 1, 64, 64))


def _nested(file: h5py.File) -> None:
    file.create_group("/".join("a" * 3000))


def _text(file: h5py.File) -> None:
    del file["images"]
    file["images"] = "text"


def _attribute(file: h5py.File) -> None:
    file.attrs["about"] = 5


def _unknown(file: h5py.File) -> None:
    file["more"] = np.zeros(3)


@pytest.mark.parametrize(
    "change", [_external, _virtual, _soft, _outside, _bomb, _huge, _nested, _text, _attribute, _unknown]
)
def test_hdf5_that_reaches_outside_or_eats_memory_is_refused(change: Callable, tmp_path: Path) -> None:
    target = hostile(tmp_path, change)
    with pytest.raises(UserError, match="damaged or cut short"):
        synthetic.read(target)


def test_what_is_no_file_is_told_as_such(tmp_path: Path) -> None:
    pipe, text, picture = tmp_path / "pipe", tmp_path / "notes.txt", tmp_path / "set.pt"
    os.mkfifo(pipe)
    text.write_text("hello")
    picture.write_bytes(b"PK\x03\x04" + bytes(100))
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["x"] = np.zeros(3)
    for path in (pipe, text, picture, foreign):
        with pytest.raises(UserError, match="is no file of attcli") as told:
            synthetic.read(path)
        assert "delete" not in str(told.value)
    with pytest.raises(UserError, match=r"is a folder; name the file in it"):
        synthetic.read(tmp_path)


@pytest.mark.parametrize("name", ["write", "seek"])
def test_a_signal_at_any_moment_of_writing_interrupts_and_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at each call that HDF5 makes of the file, of which the last ones are made while it is closed."""
    real, calls, at = getattr(hdf5._Careful, name), 0, 0

    def interrupted(careful: hdf5._Careful, *words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            signal.raise_signal(signal.SIGINT)
        return real(careful, *words)

    def write(path: Path) -> None:
        with hdf5.written(path) as file:
            for number in range(3):
                file.create_dataset(f"array{number}", data=np.zeros((50, 50)))
            file.attrs["text"] = "x" * 1000

    monkeypatch.setattr(hdf5._Careful, name, interrupted)
    write(tmp_path / "whole.h5")
    for at in range(1, calls + 1):
        calls = 0
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / f"{at}.h5")


class Short(FileIO):
    """A file that takes a thousand bytes in a call, as the system takes two gigabytes."""

    def write(self, data: Any) -> int:
        return super().write(memoryview(data)[:1000])


def test_writes_that_the_system_cuts_short_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode, buffering: Short(path, mode))
    numbers = np.arange(100_000, dtype=np.float32)
    with hdf5.written(tmp_path / "file.h5") as file:
        file["numbers"] = numbers
    monkeypatch.undo()
    assert hdf5.sealed(tmp_path / "file.h5")
    with h5py.File(tmp_path / "file.h5") as file:
        assert np.array_equal(file["numbers"], numbers)
