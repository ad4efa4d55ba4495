"""diagnose: how far the student's steps are from fitting the expert's (ATT's accumulated mismatching problem).

Read from any run's history, of any method: the distances to the target along the student's steps, how often the nearest
step N_opt misses the last by gamma or more, and N_opt itself over the iterations (ECCV 2024, figures 1, 2, 4 and 5).
Where nothing was matched with experts there are no such distances, and the course of the loss is told instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attcli import objectives
from attcli.atomic import atomic
from attcli.errors import UserError, optional
from attcli.store import artefact, history
from attcli.store.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5
"""Iterations whose distances are drawn, evenly spread from the first to the last."""

Columns = dict[str, NDArray[np.float64] | NDArray[np.int64]]


@dataclass(frozen=True)
class Diagnosis:
    """Three tables, each a mapping of column names to columns: distances, mismatches, matched.

    `sentences` say in words what the tables show.
    """

    method: str
    metric: str
    distances: Columns
    mismatches: Columns
    matched: Columns
    sentences: list[str]


@dataclass(frozen=True)
class Written:
    """The files of a diagnosis, and the sentences that say what they show."""

    files: list[Path]
    sentences: list[str]


def nearest(distances: NDArray[np.float32]) -> NDArray[np.int64]:
    """N_opt (iterations,) of distances (iterations, N_S): ties go to the later step, what is not finite is infinite.

    Where no step's distance is finite, none fits: 0, a miss of all steps.
    """
    finite = np.where(np.isfinite(distances), distances, np.inf)
    latest = distances.shape[1] - finite[:, ::-1].argmin(axis=1)
    return np.where(np.isfinite(finite).any(axis=1), latest, 0).astype(np.int64)


def read(path: Path, metric: str | None, gammas: list[int], every: int) -> Diagnosis:
    """The diagnosis of the run whose history lies in `path`, in a metric or, by default, in the run's own.

    Mismatches are counted in blocks of `every` iterations, of all their spans; the last block may be shorter, and says
    so. UserError if the history is missing or damaged.
    """
    header, arrays = artefact.read(path, history.KIND, history.MAKER)
    matched_by = header.settings.get("distill")
    own = matched_by.get("select_metric") if isinstance(matched_by, dict) else None
    metric = metric or (own if own in ("l1", "l2") else "l1")
    distances = arrays[metric]
    rows, n_steps = distances.shape
    if not rows:
        raise UserError(f"{path} holds no iterations; distil first, with `{history.MAKER}`")
    if not n_steps:
        raise UserError(f"{path} holds no distances to experts, as its set was not made by matching trajectories")
    spans = history.spans(arrays)
    if rows % spans:
        raise UserError(f"{path} is damaged: its iterations have not as many spans each; run `{history.MAKER}`")
    optimum = nearest(distances)
    shown = spans * np.unique(np.linspace(0, rows // spans - 1, SHOWN).astype(int))
    missed = n_steps - optimum
    first = np.arange(0, rows, every * spans)
    counts = {f"gamma_{gamma}": np.add.reduceat(missed >= gamma, first, dtype=np.int64) for gamma in gammas}
    return Diagnosis(
        method=str(header.about["method"]),
        metric=metric,
        distances={
            "step": np.arange(1, n_steps + 1),
            **{f"iteration_{i // spans}": distances[i].astype(np.float64) for i in shown},
            "mean": _mean(distances),
        },
        mismatches={"first_iteration": first // spans, "iterations": np.diff([*first, rows]) // spans, **counts},
        matched={"iteration": arrays["iteration"], "nearest": optimum, "matched": arrays["step"]},
        sentences=_sentences(optimum, np.asarray(arrays["step"]), n_steps, gammas)
        + _of_patience(header.settings, np.asarray(arrays["l1"])),
    )


def _mean(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean (N_S,) over the iterations whose distance is finite; NaN where none is."""
    finite = np.isfinite(distances)
    count = finite.sum(axis=0)
    total = np.where(finite, distances, 0).sum(axis=0, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _sentences(optimum: NDArray[np.int64], matched: NDArray[np.int64], n_steps: int, gammas: list[int]) -> list[str]:
    """What the figures show, in words; iterations in which no distance is finite are counted apart."""
    fits = optimum > 0
    if not fits.any():
        return [f"in none of {len(optimum)} iterations was any distance to the target finite"]
    missed = n_steps - optimum[fits]

    def share(holds: NDArray[np.bool_]) -> str:
        return f"{100 * holds.mean():.1f} %"

    lines = [
        f"the nearest step was the last of {n_steps} in {share(missed == 0)} of {len(missed)} iterations, and on "
        f"average step {optimum[fits].mean():.1f}",
        *(f"it came {gamma} or more steps before the last in {share(missed >= gamma)}" for gamma in gammas),
        f"the matched step was the nearest in {share(matched[fits] == optimum[fits])}",
    ]
    if not fits.all():
        lines.append(f"iterations without any finite distance to the target: {int((~fits).sum())}")
    return lines


def _of_patience(settings: Mapping[str, Any], distances: NDArray[np.float32]) -> list[str]:
    """A sentence where patience ended the student's training early: what came later was not measured."""
    distill = settings.get("distill")
    patience = distill.get("patience") if isinstance(distill, dict) else None
    if patience is None:
        return []
    taken = distances.shape[1] - np.isnan(distances[:, ::-1]).argmin(axis=1)
    return [
        f"patience ({patience}) ended the student's training after {taken.mean():.1f} of {distances.shape[1]} steps on "
        f"average; later steps are not counted"
    ]


STYLES = ("-", "--", "-.", ":")
"""Line styles in turn: lines that lie on each other still show, as the ones on top are broken and thinner."""

WIDEST, NARROWER = 3.2, 0.5
"""Line width in points of the first of several lines, and how much narrower each further one is."""


def _style(name: str, position: int) -> dict[str, Any]:
    """How a column is drawn: each of several has its own colour, width and style; black is kept for a mean."""
    if name == "mean":
        return {"color": "black", "linewidth": 2.5}
    return {
        "color": f"C{position}",
        "linewidth": max(1.2, WIDEST - NARROWER * position),
        "linestyle": STYLES[position % len(STYLES)],
    }


def _figure(table: str, x: str, columns: Columns, titles: tuple[str, str, str]) -> "Figure":
    """Every column over the column `x`; counts of blocks of iterations as stairs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    drawn = [name for name in reversed(columns) if name not in (x, "iterations")]
    if table != "matched":
        drawn.reverse()
    for position, name in enumerate(drawn):
        label, style = name.replace("_", " "), _style(name, position)
        if table == "mismatches":
            starts = np.asarray(columns[x])
            edges = [*starts, starts[-1] + columns["iterations"][-1]]
            axes.stairs(columns[name], edges, baseline=None, label=label, **style)
        else:
            axes.plot(columns[x], columns[name], label=label, **style)
    axes.set(title=titles[0], xlabel=titles[1], ylabel=titles[2])
    axes.legend(fontsize="small")
    return figure


def _save(figure: "Figure", file: Path) -> None:
    """A figure as PNG and SVG; equal data give equal files, by a fixed salt and without a date."""
    from matplotlib import rc_context

    for kind in ("png", "svg"):
        with atomic(file.with_name(f"{file.name}.{kind}")) as temporary, rc_context({"svg.hashsalt": "attcli"}):
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)


def _per_block(mismatches: Columns, every: int) -> str:
    last = int(mismatches["iterations"][-1])
    return f"in {every} iterations" + ("" if last == every else f" (last block: {last})")


def run(path: Path, folder: Path, metric: str | None, gammas: list[int], every: int) -> Written:
    """Write the tables and figures into `folder`.

    UserError for numbers below 1, for a history that can't be read, and where matplotlib is missing.
    """
    if not gammas or min(gammas) < 1 or every < 1:
        raise UserError("--gammas and --every must be at least 1, as in --gammas 5,10,20 --every 50")
    optional("matplotlib.figure", "plots", "the figures of `attcli diagnose`")
    if told := _without_distances(path, folder, every):
        return told
    diagnosis = read(path, metric, gammas, every)
    name = f"{diagnosis.method.replace('$', '')}: "  # which would begin a formula
    drawn = {
        "distances": (
            "step",
            (f"{name}distance to the target", "student's step", f"{diagnosis.metric.upper()} distance"),
        ),
        "mismatches": (
            "first_iteration",
            (f"{name}mismatches |N_S - N_opt| >= gamma", "iteration", _per_block(diagnosis.mismatches, every)),
        ),
        "matched": ("iteration", (f"{name}nearest and matched step", "iteration", "step")),
    }
    files: list[Path] = []
    for table, (x, titles) in drawn.items():
        files += _written(folder, table, x, getattr(diagnosis, table), titles)
    return Written(files, diagnosis.sentences)


def _written(folder: Path, table: str, x: str, columns: Columns, titles: tuple[str, str, str]) -> list[Path]:
    """Write a table and its figure."""
    write_text(folder / f"{table}.csv", history.csv_of(columns))
    _save(_figure(table, x, columns, titles), folder / table)
    return [folder / f"{table}.{kind}" for kind in ("csv", "png", "svg")]


def _without_distances(path: Path, folder: Path, every: int) -> Written | None:
    """The course of the loss, where a history has no distances to experts; else None."""
    header, arrays = artefact.read(path, history.KIND, history.MAKER)
    if not len(arrays["l1"]) or arrays["l1"].shape[1]:
        return None
    making = header.settings.get("distill")
    loss = objectives.loss(str(making.get("objective")) if isinstance(making, dict) else "")
    columns = history.by_iteration(arrays)
    losses = np.asarray(columns["loss"], np.float64)
    count, some = len(losses), min(every, len(losses))
    accepted = int((np.asarray(columns["accepted"]) != 0).sum())
    titles = (f"{str(header.about['method']).replace('$', '')}: {loss}", "iteration", loss)
    table: Columns = {"iteration": columns["iteration"], "loss": losses}
    sentences = [
        f"the {loss} was {_of_finite(losses[:some]):.4f} on average in the first {some} iterations and "
        f"{_of_finite(losses[-some:]):.4f} in the last {some}",
        f"{accepted} of {count} updates were accepted",
        "nothing was matched with experts, so there are no distances to them",
    ]
    return Written(_written(folder, "loss", "iteration", table, titles), sentences)


def _of_finite(values: NDArray[np.float64]) -> float:
    """The mean of what is finite; NaN where nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
