"""expert-0000.h5: an expert's parameters at initialisation and after every epoch, a row each, with its digest.

A file of a training that was cut short is an expert of fewer epochs; training goes on from its last row.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from attcli.errors import UserError
from attcli.store import artefact

KIND = "expert"
MAKER = "attcli buffer"


@dataclass(frozen=True)
class Trajectory:
    """parameters: rows (P,) from initialisation on; loss and accuracy (%) of training, a value an epoch.

    `velocity` (P,) is the optimiser's momentum after the last row, where there is momentum.
    """

    parameters: list[NDArray[np.float32]]
    loss: list[float]
    accuracy: list[float]
    velocity: NDArray[np.float32] | None = None

    @property
    def epochs(self) -> int:
        """How many epochs have been trained."""
        return len(self.loss)

    def extended(
        self,
        parameters: NDArray[np.float32],
        loss: float,
        accuracy: float,
        velocity: NDArray[np.float32] | None,
    ) -> "Trajectory":
        """The trajectory with one epoch more; this one stays as it is, so an interruption leaves either."""
        return Trajectory([*self.parameters, parameters], [*self.loss, loss], [*self.accuracy, accuracy], velocity)


def path(folder: Path, index: int) -> Path:
    """Where expert `index` is kept."""
    return folder / f"expert-{index:04d}.h5"


def present(folder: Path) -> list[Path]:
    """All expert files of a folder, in order."""
    return sorted(file for file in folder.glob("expert-*.h5") if re.fullmatch(r"expert-\d{4,}\.h5", file.name))


def row_digests(rows: Iterable[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The SHA-256 of each row (rows, 32)."""
    found = [hashlib.sha256(np.ascontiguousarray(row).data).digest() for row in rows]
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, 32)


def write(file: Path, header: artefact.Header, trajectory: Trajectory) -> None:
    """Write an expert, whole or so far."""
    arrays: artefact.Arrays = {
        "loss": np.asarray(trajectory.loss, np.float32),
        "accuracy": np.asarray(trajectory.accuracy, np.float32),
        "digests": row_digests(trajectory.parameters),
    }
    if trajectory.velocity is not None:
        arrays["velocity"] = trajectory.velocity
    artefact.write(file, header, arrays, by_row={"parameters": trajectory.parameters})


def read(file: Path) -> tuple[artefact.Header, Trajectory]:
    """Read and verify a whole expert."""
    header, arrays = artefact.read(file, KIND, MAKER, covered=("parameters",))
    rows = list(arrays["parameters"])
    if not np.array_equal(row_digests(rows), arrays["digests"]):
        raise artefact.damaged(file, MAKER, "its digests do not match")
    return header, Trajectory(rows, arrays["loss"].tolist(), arrays["accuracy"].tolist(), arrays.get("velocity"))


def epochs_of(file: Path) -> int:
    """The number of epochs in a file, without reading its rows."""
    opened, _ = artefact.open_file(file, KIND, MAKER)
    with opened:
        return int(opened["parameters"].shape[0]) - 1


class Experts:
    """Random access to the rows of several expert files; reading two rows reads no more than those."""

    def __init__(self, files: list[Path]) -> None:
        self.headers: list[artefact.Header] = []
        self._files: list[h5py.File] = []
        for file in files:
            opened, header = artefact.open_file(file, KIND, MAKER)
            self._files.append(opened)
            self.headers.append(header)

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

    def rows(self, expert: int, epochs: tuple[int, int]) -> NDArray[np.float32]:
        """The parameters (2, P) of an expert after two epochs. UserError if a stored row is damaged."""
        file = self._files[expert]
        try:
            found = np.stack([file["parameters"][epoch] for epoch in epochs])
            expected = np.stack([file["digests"][epoch] for epoch in epochs])
        except (OSError, RuntimeError) as error:
            raise artefact.damaged(Path(file.filename), MAKER, error) from None
        if not np.array_equal(row_digests(found), expected):
            raise artefact.damaged(Path(file.filename), MAKER, "a row does not match its digest")
        return found

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
