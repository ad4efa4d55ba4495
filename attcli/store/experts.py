"""expert-0000.h5: an expert's parameters at initialisation and after every epoch, one row each, with its digest.

An expert's file holds no momentum, so that its bytes follow from its settings and its epochs alone, whether it was
trained to just these epochs or further. What training needs to go on is kept in the work folder (`growing.py`).

A *compact* expert's file holds the rows of its waypoints only, and the positions of its parameter tensors on the way
between them (`compact.py`). It is read like any other: the rows of all epochs follow from these.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from attcli.errors import UserError
from attcli.store import artefact, compact, hdf5
from attcli.store.compact import Row, Way

KIND = "expert"
MAKER = "attcli buffer"


@dataclass(frozen=True)
class Trajectory:
    """parameters: rows (P,) from initialisation on; loss and accuracy (%) of training, one value per epoch.

    `velocity` (P,) is the optimiser's momentum after the last row, where there is momentum and it is known; it is never
    written to an expert's file.
    """

    parameters: Sequence[Row]
    loss: list[float]
    accuracy: list[float]
    velocity: Row | None = None

    @property
    def epochs(self) -> int:
        """How many epochs have been trained."""
        return len(self.loss)

    def first(self, epochs: int) -> "Trajectory":
        """The first epochs, as a training that ended there would have left them; rows are read when asked for."""
        return Trajectory(_Picked(self.parameters, range(epochs + 1)), self.loss[:epochs], self.accuracy[:epochs])


class _Picked(Sequence[Row]):
    """Some of the rows of others, none of which is held here."""

    def __init__(self, rows: Sequence[Row], numbers: Sequence[int]) -> None:
        self._rows, self._numbers = rows, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[self._numbers[index]]


def path(folder: Path, index: int) -> Path:
    """Where expert `index` is kept."""
    return folder / f"expert-{index:04d}.h5"


def present(folder: Path) -> list[Path]:
    """All expert files of a folder, in order."""
    return sorted(file for file in folder.glob("expert-*.h5") if re.fullmatch(r"expert-\d{4,}\.h5", file.name))


def row_digest(row: Row) -> bytes:
    """The SHA-256 of a row."""
    return hashlib.sha256(np.ascontiguousarray(row).data).digest()


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
    """Write an expert, without its momentum; its rows are read one after the other, and none is held."""
    _write(file, header, trajectory, trajectory.parameters, {})


def write_compact(file: Path, header: artefact.Header, trajectory: Trajectory, waypoints: int) -> None:
    """Write an expert compactly; its rows are read one after the other, and two are held."""
    way = compact.way_of(trajectory.parameters, _sizes(header.about), waypoints)
    rows = _Picked(trajectory.parameters, [int(epoch) for epoch in way.waypoints])
    _write(file, header, trajectory, rows, {"waypoints": way.waypoints, "positions": way.positions})


def _write(
    file: Path, header: artefact.Header, trajectory: Trajectory, rows: Sequence[Row], others: artefact.Arrays
) -> None:
    digests = [row_digest(row) for row in rows]
    arrays: artefact.Arrays = {
        "loss": np.asarray(trajectory.loss, np.float32),
        "accuracy": np.asarray(trajectory.accuracy, np.float32),
        "digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
        **others,
    }
    artefact.write(file, header, arrays, {"parameters": rows})


def read(file: Path) -> tuple[artefact.Header, Trajectory]:
    """Verify a whole expert; its rows are read one at a time, and again when they are asked for."""
    opened, header = artefact.open_file(file, KIND, MAKER)
    with opened:
        arrays = hdf5.read(file, _but_rows(opened))
        count = opened["parameters"].shape[0]
        if artefact.checksum(arrays) != header.sha256:
            raise artefact.damaged(file, MAKER, "its checksum does not match")
        for number in range(count):
            _check_row(file, opened["parameters"][number], arrays["digests"][number])
    rows: Sequence[Row] = _StoredRows(file, count)
    if way := _way(file, header, arrays):
        rows = compact.Between(way, rows)
    return header, Trajectory(rows, arrays["loss"].tolist(), arrays["accuracy"].tolist(), arrays.get("velocity"))


def _but_rows(opened: h5py.File) -> dict[str, h5py.Dataset]:
    """The arrays of an open expert that are read whole; its rows are read one at a time."""
    return {name: opened[name] for name in opened if name != "parameters"}


def _sizes(about: dict[str, Any]) -> tuple[int, ...]:
    """The numbers of each parameter tensor, as the layout in a header says."""
    return tuple(math.prod(shape) for _, shape in about["layout"])


def _way(file: Path, header: artefact.Header, arrays: artefact.Arrays) -> Way | None:
    """The way of a compact expert; None for one that has the rows of all epochs. UserError where it is none."""
    if "positions" not in arrays:
        return None
    if arrays["waypoints"].dtype != np.dtype(np.int64) or arrays["positions"].dtype != np.dtype(np.float64):
        raise artefact.damaged(file, MAKER, "its waypoints and positions are of other types than they should be")
    way = Way(arrays["waypoints"], arrays["positions"], _sizes(header.about))
    if problem := way.problem():
        raise artefact.damaged(file, MAKER, problem)
    return way


def _check_row(file: Path, row: Row, digest: NDArray[np.uint8]) -> None:
    """UserError unless a row is what was written, and can be used."""
    if row_digest(row) != digest.tobytes():
        raise artefact.damaged(file, MAKER, "a row does not match its digest")
    if not np.isfinite(row).all():  # no training here ends so; what would be distilled from it is not finite either
        raise artefact.damaged(file, MAKER, "a row holds parameters that are not finite")


def epochs_of(file: Path) -> int:
    """The number of epochs in a file, without reading its rows."""
    opened, _ = artefact.open_file(file, KIND, MAKER)
    with opened:
        return len(opened["loss"])


def holds_momentum(file: Path) -> bool:
    """Whether a file is of an earlier version, which wrote the momentum into it; its rows are not read."""
    opened, _ = artefact.open_file(file, KIND, MAKER)
    with opened:
        return "velocity" in opened


def kept_epochs(file: Path) -> int:
    """The epochs that are kept of an expert in a work folder, finished or growing; nothing is verified or changed."""
    index = file.with_suffix(".jsonl")
    growing = index.read_bytes().count(b"\n") - 1 if index.exists() else 0
    return max(growing, epochs_of(file) if file.exists() else 0, 0)


class Experts:
    """Random access to the rows of several expert files; reading two rows reads no more than those.

    Of compact experts, the rows of the waypoints beside them are read.
    """

    def __init__(self, files: list[Path]) -> None:
        self.headers: list[artefact.Header] = []
        self._files: list[h5py.File] = []
        self._ways: list[Way | None] = []
        try:
            for file in files:
                opened, header = artefact.open_file(file, KIND, MAKER)
                self._files.append(opened)
                self.headers.append(header)
                hdf5.require_memory(file, _but_rows(opened).values())
                self._ways.append(_way_in(file, opened, header))
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
    def abouts(self) -> list[dict[str, Any]]:
        """What each expert's header says."""
        return [header.about for header in self.headers]

    @property
    def epochs(self) -> int:
        """The epochs that all experts have."""
        return min(len(file["loss"]) for file in self._files)

    @property
    def compact(self) -> bool:
        """Whether one of them is compact."""
        return any(self._ways)

    def digest(self, epochs: int) -> str:
        """A SHA-256 of every expert's rows up to that epoch, in hexadecimal; of all of them for compact experts."""
        parts = [
            file["digests"][()].tobytes() + way.waypoints.tobytes() + way.positions.tobytes()
            if way
            else file["digests"][: epochs + 1].tobytes()
            for file, way in zip(self._files, self._ways, strict=True)
        ]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def rows(self, expert: int, epochs: tuple[float, float]) -> Row:
        """The parameters (2, P) of an expert after two whole or real numbers of epochs.

        Between the epochs that are kept, they lie on the straight line. UserError if a stored row is damaged.
        """
        return np.stack([self._after(expert, epoch) for epoch in epochs])

    def _after(self, expert: int, epoch: float) -> Row:
        way, before = self._ways[expert], int(epoch)
        if way is not None:
            return way.row(epoch, lambda number: self._row(expert, number))
        row = self._row(expert, before)
        return row if epoch == before else compact.between(row, self._row(expert, before + 1), epoch - before)

    def mapped(self, expert: int) -> Row:
        """All rows (epochs + 1, P) of an expert that is not compact, verified, as an array mapped from its file."""
        file = self._files[expert]
        kept = file["parameters"]
        rows: Row = np.memmap(Path(file.filename), kept.dtype, "c", hdf5.offset(kept), kept.shape)
        for row, digest in zip(rows, file["digests"][()], strict=True):
            _check_row(Path(file.filename), row, digest)
        return rows

    def _row(self, expert: int, number: int) -> Row:
        """A stored row (P,)."""
        file = self._files[expert]
        try:
            row: Row = file["parameters"][number]
            digest = file["digests"][number]
        except (OSError, RuntimeError) as error:
            raise artefact.unreadable(Path(file.filename), MAKER, error) from None
        _check_row(Path(file.filename), row, digest)
        return row

    def __enter__(self) -> "Experts":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


def _way_in(file: Path, opened: h5py.File, header: artefact.Header) -> Way | None:
    """The way in an open file of a compact expert, which a seal covers."""
    names = [name for name in ("waypoints", "positions") if name in opened]
    return _way(file, header, hdf5.read(file, {name: opened[name] for name in names}))


def open_experts(folder: Path, count: int) -> Experts:
    """The first `count` experts of a folder. UserError if there are fewer."""
    files = [path(folder, i) for i in range(count)]
    if missing := [file for file in files if not file.exists()]:
        raise UserError(f"{len(missing)} of {count} experts are missing in {folder}; run `{MAKER}`")
    return Experts(files)
