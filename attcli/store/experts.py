"""expert-0000.h5: an expert's parameters at initialisation and after every epoch, one row each, with its digest.

An expert's file holds no momentum, so that its bytes follow from its settings and its epochs alone, whether it was
trained to just these epochs or further. What training needs to go on is kept in the work folder (`growing.py`).
"""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from attcli.errors import UserError
from attcli.store import artefact, hdf5

KIND = "expert"
MAKER = "attcli buffer"
Row = NDArray[np.floating[Any]]


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
        return Trajectory(_First(self.parameters, epochs + 1), self.loss[:epochs], self.accuracy[:epochs])


class _First(Sequence[Row]):
    """The first rows of others, none of which is held here."""

    def __init__(self, rows: Sequence[Row], count: int) -> None:
        self._rows, self._count = rows, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        return self._rows[range(self._count)[index]]


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
    digests = [row_digest(row) for row in trajectory.parameters]
    arrays: artefact.Arrays = {
        "loss": np.asarray(trajectory.loss, np.float32),
        "accuracy": np.asarray(trajectory.accuracy, np.float32),
        "digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
    }
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
    """UserError unless a row is what was written, and can be used."""
    if row_digest(row) != digest.tobytes():
        raise artefact.damaged(file, MAKER, "a row does not match its digest")
    if not np.isfinite(row).all():  # no training here ends so; what would be distilled from it is not finite either
        raise artefact.damaged(file, MAKER, "a row holds parameters that are not finite")


def epochs_of(file: Path) -> int:
    """The number of epochs in a file, without reading its rows."""
    opened, _ = artefact.open_file(file, KIND, MAKER)
    with opened:
        return int(opened["parameters"].shape[0]) - 1


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
    def abouts(self) -> list[dict[str, Any]]:
        """What each expert's header says."""
        return [header.about for header in self.headers]

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

    def mapped(self, expert: int) -> Row:
        """All rows (epochs + 1, P) of an expert, verified, as an array that is mapped from its file."""
        file = self._files[expert]
        kept = file["parameters"]
        rows: Row = np.memmap(Path(file.filename), kept.dtype, "c", hdf5.offset(kept), kept.shape)
        for row, digest in zip(rows, file["digests"][()], strict=True):
            _check_row(Path(file.filename), row, digest)
        return rows

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
