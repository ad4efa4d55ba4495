"""expert-0000.h5: an expert's parameters at initialisation and after every epoch, one row each, with its digest.

While an expert is trained its rows are appended to plain files (`Growing`), so that saving an epoch costs one row. A
finished expert is written from them, row by row.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from attcli.errors import UserError
from attcli.store import artefact
from attcli.store.files import atomic

KIND = "expert"
MAKER = "attcli buffer"
Row = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Trajectory:
    """parameters: rows (P,) from initialisation on; loss and accuracy (%) of training, one value per epoch.

    `velocity` (P,) is the optimiser's momentum after the last row, where there is momentum.
    """

    parameters: Sequence[Row]
    loss: list[float]
    accuracy: list[float]
    velocity: Row | None = None

    @property
    def epochs(self) -> int:
        """How many epochs have been trained."""
        return len(self.loss)


def path(folder: Path, index: int) -> Path:
    """Where expert `index` is kept."""
    return folder / f"expert-{index:04d}.h5"


def present(folder: Path) -> list[Path]:
    """All expert files of a folder, in order."""
    return sorted(file for file in folder.glob("expert-*.h5") if re.fullmatch(r"expert-\d{4,}\.h5", file.name))


def row_digest(row: Row) -> bytes:
    """The SHA-256 of a row."""
    return hashlib.sha256(np.ascontiguousarray(row).data).digest()


class Growing:
    """An expert that is being trained: `NAME.rows` (raw numbers), and `NAME.jsonl` (a line per row) beside it.

    A row counts once its line is complete and its digest fits, so a process may be killed at any moment: on opening,
    what does not fit at the end is cut off. With momentum, `NAME.velocity-ROW` belongs to a row, and a row without it
    is cut off too; the files of the last two rows are kept.
    """

    def __init__(self, file: Path, dtype: np.dtype[Any]) -> None:
        self._rows, self._index = file.with_suffix(".rows"), file.with_suffix(".jsonl")
        self._dtype = dtype
        self._lines: list[dict[str, Any]] = []
        if self._rows.exists() and self._index.exists():
            self._recover()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.drop()

    def _recover(self) -> None:
        """Keep the rows up to the first one that is not whole."""
        lines = self._index.read_bytes().splitlines(keepends=True)
        with self._rows.open("rb") as rows:
            for line in lines:
                entry = _entry(line)
                data = rows.read(int(entry["bytes"])) if entry else b""
                if not entry or hashlib.sha256(data).hexdigest() != entry["sha256"]:
                    break
                self._lines.append(entry)
        while self._lines and self._lines[-1].get("velocity") and self._velocity(len(self._lines) - 1) is None:
            self._lines.pop()
        os.truncate(self._index, sum(len(line) for line in lines[: len(self._lines)]))
        os.truncate(self._rows, sum(int(entry["bytes"]) for entry in self._lines))

    def _velocity_file(self, row: int) -> Path:
        return self._rows.with_suffix(f".velocity-{row}")

    def _velocity(self, row: int) -> Row | None:
        """The momentum after a row, if it is kept and whole."""
        file = self._velocity_file(row)
        data = file.read_bytes() if file.exists() else b""
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            return None
        return np.frombuffer(data[32:], self._dtype)

    @property
    def epochs(self) -> int:
        """The epochs so far; -1 before there is a first row."""
        return len(self._lines) - 1

    def append(self, row: Row, loss: float | None, accuracy: float | None, velocity: Row | None = None) -> None:
        """One more row (P,): the initial parameters (without loss and accuracy), or those after one more epoch."""
        row, number = np.ascontiguousarray(row, self._dtype), len(self._lines)
        if velocity is not None:
            numbers = np.ascontiguousarray(velocity, self._dtype).tobytes()
            with atomic(self._velocity_file(number)) as temporary:
                temporary.write_bytes(hashlib.sha256(numbers).digest() + numbers)
        entry = {"bytes": row.nbytes, "sha256": row_digest(row).hex(), "loss": loss, "accuracy": accuracy}
        with self._rows.open("r+b") as file:
            file.seek(sum(int(line["bytes"]) for line in self._lines))
            file.write(row.data)
        with self._index.open("ab") as file:
            file.write(json.dumps({**entry, "velocity": velocity is not None}).encode() + b"\n")
        self._lines.append(entry)
        self._velocity_file(number - 2).unlink(missing_ok=True)

    def trajectory(self, epochs: int | None = None) -> Trajectory:
        """The expert up to an epoch (by default the last); its rows are read as they are asked for."""
        last = self.epochs if epochs is None else epochs
        lines = self._lines[1 : last + 1]
        return Trajectory(
            _Rows(self._rows, self._dtype, [int(line["bytes"]) for line in self._lines[: last + 1]]),
            [line["loss"] for line in lines],
            [line["accuracy"] for line in lines],
            self._velocity(last) if last >= 0 else None,
        )

    def drop(self) -> None:
        """Begin anew, without any row."""
        self._lines = []
        for file in (self._rows, self._index):
            file.write_bytes(b"")
        for file in self._rows.parent.glob(f"{self._rows.stem}.velocity-*"):
            file.unlink()

    def remove(self) -> None:
        """Delete the files, whose content is now in a finished expert."""
        self.drop()
        self._rows.unlink()
        self._index.unlink()


def _entry(line: bytes) -> dict[str, Any] | None:
    """A line of the index, unless it is torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"bytes", "sha256", "loss", "accuracy"} <= entry.keys() else None


class _Rows(Sequence[Row]):
    """Rows that are read from a file of raw numbers one at a time."""

    def __init__(self, file: Path, dtype: np.dtype[Any], sizes: list[int]) -> None:
        self._file, self._dtype, self._sizes = file, dtype, sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, index: Any) -> Any:
        index = range(len(self))[index]
        with self._file.open("rb") as file:
            file.seek(sum(self._sizes[:index]))
            return np.frombuffer(file.read(self._sizes[index]), self._dtype)


class _StoredRows(Sequence[Row]):
    """Rows that are read from an expert's file one at a time."""

    def __init__(self, file: Path, count: int) -> None:
        self._file, self._count = file, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        with h5py.File(str(self._file), "r") as file:
            return np.asarray(file["parameters"][range(self._count)[index]])


def write(file: Path, header: artefact.Header, trajectory: Trajectory) -> None:
    """Write an expert; its rows are read one after the other."""
    digests = [row_digest(row) for row in trajectory.parameters]
    arrays: artefact.Arrays = {
        "loss": np.asarray(trajectory.loss, np.float32),
        "accuracy": np.asarray(trajectory.accuracy, np.float32),
        "digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
    }
    if trajectory.velocity is not None:
        arrays["velocity"] = trajectory.velocity
    artefact.write(file, header, arrays, {"parameters": trajectory.parameters})


def read(file: Path) -> tuple[artefact.Header, Trajectory]:
    """Verify a whole expert; its rows are read one at a time, and again when they are asked for."""
    opened, header = artefact.open_file(file, KIND, MAKER)
    with opened:
        arrays = {name: np.asarray(opened[name][()]) for name in opened if name != "parameters"}
        count = opened["parameters"].shape[0]
        if artefact.checksum(arrays) != header.sha256:
            raise artefact.damaged(file, MAKER, "its checksum does not match")
        if opened["parameters"].ndim != 2 or opened["parameters"].shape[1] != _parameters(header.about):
            raise artefact.damaged(file, MAKER, "its rows have another length than its layout says")
        lengths = {len(arrays["digests"]), len(arrays["loss"]) + 1, len(arrays["accuracy"]) + 1}
        if lengths != {count}:
            raise artefact.damaged(file, MAKER, "its arrays are of different lengths")
        for number in range(count):
            _check_row(file, opened["parameters"][number], arrays["digests"][number])
    rows = _StoredRows(file, count)
    return header, Trajectory(rows, arrays["loss"].tolist(), arrays["accuracy"].tolist(), arrays.get("velocity"))


def _parameters(about: dict[str, Any]) -> int:
    """P, the length of a row, as the layout in a header says."""
    return sum(math.prod(shape) for _, shape in about["layout"])


def _check_row(file: Path, row: Row, digest: NDArray[np.uint8]) -> None:
    if row_digest(row) != digest.tobytes():
        raise artefact.damaged(file, MAKER, "a row does not match its digest")


def epochs_of(file: Path) -> int:
    """The number of epochs in a file, without reading its rows."""
    opened, _ = artefact.open_file(file, KIND, MAKER)
    with opened:
        return int(opened["parameters"].shape[0]) - 1


def kept_epochs(file: Path) -> int:
    """The epochs that are kept of an expert in a work folder, finished or growing; nothing is verified or changed."""
    index = file.with_suffix(".jsonl")
    growing = index.read_bytes().count(b"\n") - 1 if index.exists() else 0
    return max(growing, epochs_of(file) if file.exists() else 0, 0)


class Experts:
    """Random access to the rows of several expert files; reading two rows reads no more than those."""

    def __init__(self, files: list[Path]) -> None:
        self.headers: list[artefact.Header] = []
        self._files: list[h5py.File] = []
        try:
            for file in files:
                opened, header = artefact.open_file(file, KIND, MAKER)
                self._files.append(opened)
                self.headers.append(header)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._files)

    @property
    def about(self) -> dict[str, Any]:
        """What the first expert's header says (all were checked to be of one kind)."""
        return self.headers[0].about

    @property
    def epochs(self) -> int:
        """The epochs that all experts have."""
        return min(int(file["parameters"].shape[0]) - 1 for file in self._files)

    def digest(self, epochs: int) -> str:
        """A SHA-256 of every expert's rows up to that epoch, in hexadecimal."""
        parts = [file["digests"][: epochs + 1].tobytes() for file in self._files]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def rows(self, expert: int, epochs: tuple[int, int]) -> Row:
        """The parameters (2, P) of an expert after two epochs. UserError if a stored row is damaged."""
        return np.stack(list(self._rows(expert, epochs)))

    def _rows(self, expert: int, epochs: tuple[int, int]) -> Iterator[Row]:
        file = self._files[expert]
        for epoch in epochs:
            try:
                row, digest = file["parameters"][epoch], file["digests"][epoch]
            except (OSError, RuntimeError) as error:
                raise artefact.damaged(Path(file.filename), MAKER, error) from None
            _check_row(Path(file.filename), row, digest)
            yield row

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


def open_experts(folder: Path, count: int) -> Experts:
    """The first `count` experts of a folder. UserError if there are fewer."""
    files = [path(folder, i) for i in range(count)]
    if missing := [file for file in files if not file.exists()]:
        raise UserError(f"{len(missing)} of {count} experts are missing in {folder}; run `{MAKER}`")
    return Experts(files)
