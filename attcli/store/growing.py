"""An expert that is being trained: plain files in the work folder, to which saving an epoch adds one row.

A finished expert's file (`experts.py`) is written from them. The momentum stays here, as a file beside the expert: with
it an expert can be trained on exactly, and the expert's own file does not depend on how it came about.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attcli.atomic import atomic
from attcli.store.compact import Row
from attcli.store.experts import Trajectory, row_digest
from attcli.store.files import append_synced
from attcli.store.lines import entry_of, line_of


class Growing:
    """`NAME.rows` holds raw numbers, `NAME.jsonl` a line per row, and `NAME.velocity-N` the momentum after row N.

    A row counts once its line is complete and both fit their digests, so a process may be killed at any moment, and
    the power may fail: on opening, what does not fit at the end is cut off, and trained again. With `momentum`, a row
    after which the momentum is not known is cut off too; the momentum of the last two rows is kept, and that of a
    finished expert.
    """

    def __init__(self, file: Path, dtype: np.dtype[Any], *, momentum: bool = False) -> None:
        self._rows, self._index = file.with_suffix(".rows"), file.with_suffix(".jsonl")
        self._dtype, self._momentum = dtype, momentum
        self._lines: list[dict[str, Any]] = []
        if self._rows.exists() and self._index.exists():
            self._recover()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._begin()

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
        while self._momentum and self.epochs > 0 and self._own_velocity(self.epochs) is None:
            self._lines.pop()
        os.truncate(self._index, sum(len(line) for line in lines[: len(self._lines)]))
        os.truncate(self._rows, sum(int(entry["bytes"]) for entry in self._lines))

    def _velocity_file(self, row: int) -> Path:
        return self._rows.with_suffix(f".velocity-{row}")

    def _velocity(self, row: int, digest: bytes) -> Row | None:
        """The momentum after a row of that digest, if it is kept and whole."""
        file = self._velocity_file(row)
        data = file.read_bytes() if file.exists() else b""
        if _seal(digest, data[32:]) != data[:32]:
            return None
        return np.frombuffer(data[32:], self._dtype)

    def _own_velocity(self, row: int) -> Row | None:
        return self._velocity(row, bytes.fromhex(self._lines[row]["sha256"]))

    def _keep_velocity(self, row: int, digest: bytes, velocity: Row) -> None:
        numbers = np.ascontiguousarray(velocity, self._dtype).tobytes()
        with atomic(self._velocity_file(row)) as temporary:
            temporary.write_bytes(_seal(digest, numbers) + numbers)

    @property
    def epochs(self) -> int:
        """The epochs so far; -1 before there is a first row."""
        return len(self._lines) - 1

    def append(self, row: Row, loss: float | None, accuracy: float | None, velocity: Row | None = None) -> None:
        """One more row (P,): the initial parameters (without loss and accuracy), or those after one more epoch.

        It is on the disk when this returns.
        """
        row, number = np.ascontiguousarray(row, self._dtype), len(self._lines)
        digest = row_digest(row)
        if velocity is not None:
            self._keep_velocity(number, digest, velocity)
        entry = {"bytes": row.nbytes, "sha256": digest.hex(), "loss": loss, "accuracy": accuracy}
        append_synced(self._rows, row.tobytes(), at=sum(int(line["bytes"]) for line in self._lines))
        append_synced(self._index, line_of(entry))
        self._lines.append(entry)
        self._velocity_file(number - 2).unlink(missing_ok=True)

    def trajectory(self) -> Trajectory:
        """The expert so far, with the momentum after its last row; its rows are read as they are asked for."""
        lines = self._lines[1:]
        return Trajectory(
            _Rows(self._rows, self._dtype, [int(line["bytes"]) for line in self._lines]),
            [line["loss"] for line in lines],
            [line["accuracy"] for line in lines],
            self._own_velocity(self.epochs) if self.epochs >= 0 else None,
        )

    def continue_from(self, finished: Trajectory) -> int:
        """Take over a finished expert, up to the last row from which training can go on, where that is a later one.

        With momentum that is the last row after which the momentum is kept; returns its epoch.
        """
        epoch = self._last_known(finished)
        if epoch <= self.epochs:
            return epoch
        velocity = self._known_velocity(finished, epoch)
        self._begin()
        for number in range(epoch + 1):
            loss, accuracy = (finished.loss[number - 1], finished.accuracy[number - 1]) if number else (None, None)
            self.append(finished.parameters[number], loss, accuracy, velocity if number == epoch else None)
        return epoch

    def _last_known(self, finished: Trajectory) -> int:
        """The last epoch of a finished expert from which training can go on."""
        if not self._momentum:
            return finished.epochs
        epochs = range(finished.epochs, 0, -1)
        return next((epoch for epoch in epochs if self._known_velocity(finished, epoch) is not None), 0)

    def _known_velocity(self, finished: Trajectory, epoch: int) -> Row | None:
        if epoch == finished.epochs and finished.velocity is not None:  # a file of an earlier version
            return finished.velocity
        if not self._velocity_file(epoch).exists():
            return None
        return self._velocity(epoch, row_digest(finished.parameters[epoch]))

    def _begin(self) -> None:
        """Begin anew, without any row; momentum that is kept stays, as it may be a finished expert's."""
        self._lines = []
        for file in (self._rows, self._index):
            file.write_bytes(b"")

    def remove(self) -> None:
        """Delete the rows, which are in a finished expert now; the momentum after the last one stays."""
        last = self._velocity_file(self.epochs)
        for file in self._rows.parent.glob(f"{self._rows.stem}.velocity-*"):
            if file != last:
                file.unlink()
        self._rows.unlink()
        self._index.unlink()
        self._lines = []


def _seal(digest: bytes, numbers: bytes) -> bytes:
    """What momentum is recognised by: it belongs to one row, and is whole."""
    return hashlib.sha256(digest + numbers).digest()


def _entry(line: bytes) -> dict[str, Any] | None:
    """A line of the index, unless it is torn or damaged."""
    entry = entry_of(line)
    return entry if entry and {"bytes", "sha256", "loss", "accuracy"} <= entry.keys() else None


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
