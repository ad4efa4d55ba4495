"""Trajectories written and read at random, against pickled buffers that are loaded whole."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attcli.matching.parameters import Layout
from attcli.store import artefact, experts
from benchmarks.problem import CONVNET
from benchmarks.references import read_pickled, write_pickled
from benchmarks.timing import compare, peak_memory

EXPERTS, EPOCHS, READS = 4, 20, 40


@cache
def _rows() -> list[list[np.ndarray[Any, np.dtype[np.float32]]]]:
    size = Layout.of(CONVNET.build()).size
    generator = np.random.default_rng(0)
    return [list(generator.standard_normal((EPOCHS + 1, size), np.float32)) for _ in range(EXPERTS)]


def write_ours(folder: Path) -> None:
    """One HDF5 file per expert."""
    header = artefact.Header(experts.KIND, "", {}, {}, {})
    for i, rows in enumerate(_rows()):
        experts.write(experts.path(folder, i), header, experts.Trajectory(rows, [0.0] * EPOCHS, [0.0] * EPOCHS))


def write_reference(folder: Path) -> None:
    """One pickle of all experts, parameter by parameter."""
    sizes = Layout.of(CONVNET.build()).sizes
    split = [[list(torch.from_numpy(row).split(sizes)) for row in rows] for rows in _rows()]
    write_pickled(folder / "buffer.pt", [[[p.clone() for p in row] for row in rows] for rows in split])


def reader(who: str, folder: str) -> Callable[[], object]:
    """Reads of random spans of two epochs; in each a new expert."""
    generator = np.random.default_rng(1)
    wanted = [
        (int(generator.integers(EXPERTS)), int(start), int(start) + 2) for start in generator.integers(0, 19, READS)
    ]
    if who == "reference":
        return lambda: [pair[0].sum() for pair in read_pickled(Path(folder) / "buffer.pt", wanted)]

    def ours() -> None:
        opened = experts.open_experts(Path(folder), EXPERTS)
        for expert, first, last in wanted:
            opened.rows(expert, (first, last)).sum()
        opened.close()

    return ours


def run(device: str, rounds: int | None, only: str) -> Iterator[dict[str, Any]]:
    """Writing and reading; the memory of reading."""
    folder = Path(tempfile.mkdtemp(prefix="attcli-benchmark-"))
    try:
        _rows()
        if only in "write":
            written = compare(lambda: write_ours(folder), lambda: write_reference(folder), rounds or 5)
            yield {"name": "store/write", **written}
        if only in "read":
            write_ours(folder)
            write_reference(folder)
            found = compare(reader("ours", str(folder)), reader("reference", str(folder)), rounds or 5)
            peaks = [peak_memory(reader, who, str(folder)) for who in ("ours", "reference")]
            found["ours"]["peak_bytes"], found["reference"]["peak_bytes"] = peaks
            yield {"name": "store/read", "memory_ratio": round(peaks[0] / peaks[1], 4), **found}
    finally:
        shutil.rmtree(folder)
