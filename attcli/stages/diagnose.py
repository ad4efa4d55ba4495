"""diagnose: how far the student's steps are from fitting the expert's (ATT's accumulated mismatching problem).

Read from any run's history, of any method: the distances to the target along the student's steps, how often the nearest
step N_opt misses the last by gamma or more, and N_opt itself over the iterations (ECCV 2024, figures 1, 2, 4 and 5).
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attcli.errors import UserError
from attcli.store import artefact, history
from attcli.store.files import atomic, write_text

SHOWN = 5
"""Iterations whose distances are drawn, evenly spread from the first to the last."""

Columns = dict[str, NDArray[np.float64] | NDArray[np.int64]]


@dataclass(frozen=True)
class Diagnosis:
    """Three tables, each a mapping of column names to columns: distances, mismatches, matched."""

    method: str
    metric: str
    distances: Columns
    mismatches: Columns
    matched: Columns


def nearest(distances: NDArray[np.float32]) -> NDArray[np.int64]:
    """N_opt (iterations,) of distances (iterations, N_S): ties go to the later step, what is not finite is infinite.

    Where no step's distance is finite, none fits: 0, a miss of all steps.
    """
    finite = np.where(np.isfinite(distances), distances, np.inf)
    found = distances.shape[1] - finite[:, ::-1].argmin(axis=1)
    return np.where(np.isfinite(finite).any(axis=1), found, 0).astype(np.int64)


def read(path: Path, metric: str | None, gammas: list[int], every: int) -> Diagnosis:
    """The diagnosis of the run whose history lies in `path`, in a metric or, by default, in the run's own.

    Mismatches are counted in whole blocks of `every` iterations; a run that is shorter is one block. UserError if the
    history is missing or damaged.
    """
    header, arrays = artefact.read(path, history.KIND, history.MAKER)
    metric = metric or str(header.settings["distill"]["select_metric"])
    found = arrays[metric]
    iterations, steps = found.shape
    optimum = nearest(found)
    shown = np.unique(np.linspace(0, iterations - 1, SHOWN).astype(int))
    missed = steps - optimum
    blocks = np.arange(0, max(1, iterations - every + 1), every)
    counts = {
        f"gamma_{gamma}": np.asarray([(missed[first : first + every] >= gamma).sum() for first in blocks], np.int64)
        for gamma in gammas
    }
    return Diagnosis(
        method=str(header.about["method"]),
        metric=metric,
        distances={
            "step": np.arange(1, steps + 1),
            **{f"iteration_{i}": found[i].astype(np.float64) for i in shown},
            "mean": np.nanmean(np.where(np.isfinite(found), found, np.nan), axis=0).astype(np.float64),
        },
        mismatches={"first_iteration": blocks, **counts},
        matched={"iteration": arrays["iteration"], "nearest": optimum, "matched": arrays["step"]},
    )


def _csv(columns: Columns) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        table.writerow([f"{value:.9g}" if isinstance(value, np.floating) else int(value) for value in row])
    return text.getvalue()


def _draw(file: Path, x: str, columns: Columns, titles: tuple[str, str, str], *, every: int = 0) -> None:
    """One figure as PNG and SVG: every column over the column `x`; counts of `every` iterations as stairs."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, column in columns.items():
        if name != x:
            label = name.replace("_", " ")
            if every:
                starts = np.asarray(columns[x])
                axes.stairs(column, [*starts, starts[-1] + every], baseline=None, label=label)
            else:
                axes.plot(columns[x], column, label=label, linewidth=2.5 if name == "mean" else 1.2)
    axes.set(title=titles[0], xlabel=titles[1], ylabel=titles[2])
    axes.legend(fontsize="small")
    for kind in ("png", "svg"):
        target = file.with_name(f"{file.name}.{kind}")
        # A fixed salt and no date: equal data give equal files.
        with atomic(target) as temporary, rc_context({"svg.hashsalt": "attcli"}):
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)


def run(path: Path, folder: Path, metric: str | None, gammas: list[int], every: int) -> list[Path]:
    """Write the tables and figures into `folder`; returns what was written."""
    if not gammas or min(gammas) < 1 or every < 1:
        raise UserError("--gammas and --every must be at least 1, as in --gammas 5,10,20 --every 50")
    found = read(path, metric, gammas, every)
    name = f"{found.method}: "
    drawn = {
        "distances": ("step", (f"{name}distance to the target", "student's step", f"{found.metric.upper()} distance")),
        "mismatches": (
            "first_iteration",
            (f"{name}mismatches |N_S - N_opt| >= gamma", "iteration", f"in {every} iterations"),
        ),
        "matched": ("iteration", (f"{name}nearest and matched step", "iteration", "step")),
    }
    written = []
    for table, (x, titles) in drawn.items():
        columns = getattr(found, table)
        write_text(folder / f"{table}.csv", _csv(columns))
        _draw(folder / table, x, columns, titles, every=every if table == "mismatches" else 0)
        written += [folder / f"{table}.{kind}" for kind in ("csv", "png", "svg")]
    return written
