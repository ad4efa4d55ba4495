"""history.h5: what every iteration of a distillation did, and its CSV view.

While distilling, the records lie in parts, one for each stretch between two saves, named by its first iteration.
Times are in them, so a history is the one artefact whose bytes differ between two equal runs.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attcli.atomic import atomic
from attcli.store import artefact, npz
from attcli.store.files import set_aside, write_text
from attcli.store.hdf5 import BadFileError

KIND = "history"
MAKER = "attcli distill"


@dataclass(frozen=True)
class Record:
    """A span of an iteration, both from 0: its expert, start epoch, matched step and loss, and lr after the update.

    `seconds` is the iteration's time divided by its spans. `l1` and `l2` (N_S,) are the distances to the target after
    each of the student's steps, NaN after the one at which patience ended its training; `accepted` is 0 where the
    update was skipped because something was not finite, or rejected because the loss was above `max_loss`.
    """

    iteration: int
    expert: int
    start_epoch: float
    step: int
    loss: float
    lr: float
    seconds: float
    accepted: int
    l1: np.ndarray
    l2: np.ndarray
    span: int = 0


SPAN = "span"
"""The column that a history has where an iteration is the mean over several spans, and has so many rows."""

SCALARS = ("iteration", "expert", "start_epoch", "step", "loss", "lr", "seconds", "accepted")
INTEGERS = ("iteration", "expert", "start_epoch", "step", "accepted")


def write_part(folder: Path, records: list[Record]) -> None:
    """Add a stretch of records; a longer part of the same start is kept."""
    path = folder / f"part-{records[0].iteration:07d}.npz"
    before = _read_part(path) if path.exists() else None
    if before is not None and len(before["iteration"]) >= len(records):
        return
    rows = [asdict(record) for record in records]
    whole = all(float(record.start_epoch).is_integer() for record in records)
    kinds = {**dict.fromkeys((*INTEGERS, SPAN), np.int64), **({} if whole else {"start_epoch": np.float64})}
    columns: artefact.Arrays = {n: np.asarray([row[n] for row in rows], kinds.get(n, np.float32)) for n in rows[0]}
    if not columns[SPAN].any():
        del columns[SPAN]
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **columns)


def adopt(folder: Path, arrays: artefact.Arrays) -> None:
    """Take the records of a published history as a first part, where the parts do not hold all of them."""
    path, kept = folder / "part-0000000.npz", len(arrays.get("iteration", ()))
    last = int(arrays["iteration"][-1]) + 1 if kept else 0
    if kept > len(collect(folder, last).get("iteration", ())):
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)


def _read_part(path: Path) -> artefact.Arrays | None:
    """The records of a part; a damaged one is set aside, and its iterations are missing from then on."""
    try:
        arrays = npz.read(path)
        lengths = {len(array) for array in arrays.values()}
        if not {*SCALARS} <= arrays.keys() or len(lengths) != 1 or lengths == {0}:
            raise BadFileError("its columns are not those of a history")
    except (BadFileError, TypeError) as error:
        set_aside(path, error)
        return None
    return arrays


def collect(folder: Path, iterations: int) -> artefact.Arrays:
    """All records before `iterations`, each column one array, put together from the parts.

    Where parts overlap, the earlier one counts. What no part holds is missing: `iteration` tells which there are.
    """
    columns: dict[str, list[np.ndarray]] = {}
    expected = 0
    for path in sorted(folder.glob("part-*.npz")):
        part = _read_part(path)
        if part is None:
            continue
        new = (part["iteration"] >= expected) & (part["iteration"] < iterations)
        if not new.any() or (columns and part.keys() != columns.keys()):
            continue
        for name, array in part.items():
            columns.setdefault(name, []).append(array[new])
        expected = int(part["iteration"][new][-1]) + 1
    return {name: np.concatenate(pieces) for name, pieces in columns.items()}


def spans(arrays: artefact.Arrays) -> int:
    """How many rows an iteration has."""
    return int(arrays[SPAN].max()) + 1 if SPAN in arrays else 1


def by_iteration(arrays: artefact.Arrays) -> artefact.Arrays:
    """The scalar columns with a row for each iteration: seconds are added, the rest are means over its spans."""
    columns = {name: array for name, array in arrays.items() if name in SCALARS}
    count = spans(arrays)
    if count == 1:
        return columns
    rows = {name: array.reshape(-1, count) for name, array in columns.items()}
    joined: artefact.Arrays = {}
    for name, of_spans in rows.items():
        if name in ("iteration", "lr", "accepted"):  # which all spans share
            joined[name] = of_spans[:, 0]
        else:
            joined[name] = of_spans.sum(axis=1) if name == "seconds" else of_spans.mean(axis=1, dtype=float)
    return joined


def write(path: Path, header: artefact.Header, arrays: artefact.Arrays) -> None:
    """Write the history of a run."""
    artefact.write(path, header, arrays)


def rows_of(table: Path) -> int:
    """How many rows a CSV view has."""
    return max(table.read_bytes().count(b"\n") - 1, 0)


def csv_of(columns: Mapping[str, NDArray[Any]]) -> str:
    """Columns of one length as CSV: whole numbers as they are, others with nine digits, which tell float32 apart."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        table.writerow([f"{value:.9g}" if isinstance(value, np.floating) else int(value) for value in row])
    return text.getvalue()


def write_csv(path: Path, arrays: artefact.Arrays) -> None:
    """The scalars of every iteration as CSV, for plots."""
    names = (*SCALARS, SPAN) if SPAN in arrays else SCALARS
    write_text(path, csv_of({name: arrays[name] for name in names}))
