"""What the tests of the stages look at: what was logged, and what a run left."""

from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import torch
from loguru import logger

from attcli.stages.run import Run
from attcli.store import dataset, states, synthetic


@contextmanager
def logged(level: str = "WARNING") -> Iterator[list[str]]:
    """What is logged meanwhile, from this level on."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level=level)
    try:
        yield lines
    finally:
        logger.remove(sink)


def contents(run: Run) -> dict[str, object]:
    """Everything that a run made and that holds no times, byte by byte; of the history all but the seconds."""
    found: dict[str, object] = {
        str(path.relative_to(run.settings.runtime.artifacts)): path.read_bytes()
        for path in sorted(run.settings.runtime.artifacts.rglob("*"))
        if path.is_file() and not path.name.startswith("history")
    }
    with h5py.File(run.history) as file:
        found |= {f"history/{name}": file[name][()].tobytes() for name in file if name != "seconds"}
    return found


def states_of(run: Run) -> list[states.State]:
    """The states in a run's snapshots, by iteration."""
    normaliser = dataset.read(run.dataset).normaliser
    return [states.read(path, normaliser) for path in states.snapshots(run.snapshots)]


def variants(run: Run) -> list[torch.Tensor]:
    """The synthetic images of a run's set, as scored: the last and the average."""
    return list(synthetic.read(run.synthetic).variants.values())
