"""Several runs on one page: their scores, losses and images side by side, and the settings in which they differ."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attcli import objectives
from attcli.errors import UserError, one_line
from attcli.options import VARIANTS
from attcli.records.model import Published
from attcli.report import words
from attcli.report.files import of_run
from attcli.report.looks import LIGHT, Drawn, Theme, drawn
from attcli.report.model import Facts
from attcli.report.page import SMOOTH_FROM, environment, lead
from attcli.report.plots import (
    Row,
    by_power,
    draw_rows,
    file_name,
    numbers,
    plain_ticks,
    rows_of,
    trend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 20
"""Classes whose first images are shown."""

MOST_RUNS = 24
"""Runs of one page, which is as many columns as can still be read."""

LONGEST_NAME = 40


def gathered(runs: Sequence[Path], works: Sequence[Path]) -> list[Facts]:
    """The data of each run, each with a name of its own. UserError for fewer than two runs, or what is none."""
    if len(runs) < 2:
        raise UserError("name two runs or more: `attcli compare RUN RUN`; for one, `attcli report --artifacts FOLDER`")
    if len(runs) > MOST_RUNS:
        raise UserError(f"{len(runs)} runs are more than fit on a page; name at most {MOST_RUNS}")
    facts = [of_run(run, works) for run in runs]
    return [each.model_copy(update={"name": name}) for each, name in zip(facts, _names(runs), strict=True)]


def _names(runs: Sequence[Path]) -> list[str]:
    """The runs' folders by as few of their last parts as tell them apart; by a number where nothing does."""
    parts = [_telling(run) for run in runs]
    names: list[str] = []
    for length in range(1, 1 + max(map(len, parts))):
        names = ["/".join(of_run[-length:]) for of_run in parts]
        if len(set(names)) == len(names):
            break
    count = Counter(names)
    numbered = [f"{name} ({i})" if count[name] > 1 else name for i, name in enumerate(names, 1)]
    return [name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}" for name in map(one_line, numbered)]


def _telling(run: Path) -> tuple[str, ...]:
    """The parts of a run's path that tell something: not the names that all results and reports have."""
    parts = list(run.resolve().parts)
    while len(parts) > 2 and parts[-1] in ("report.json", "report", "artifacts"):
        parts.pop()
    return tuple(parts[1:]) or ("run",)


def plots_of(runs: Sequence[Facts]) -> dict[str, Drawn]:
    """The plots of a comparison by the name of their file: scores of each network, and losses."""
    archs = dict.fromkeys(arch for facts in runs for arch in facts.scores)
    plots = {file_name("compared", "scores", arch): _scores(runs, arch) for arch in archs}
    if any(facts.history for facts in runs):
        plots["compared-loss"] = _losses(runs)
    return plots


def _scores(runs: Sequence[Facts], arch: str) -> Drawn:
    """The rows of every run below its name, in its colour; then what was published, once."""

    def rows(theme: Theme) -> list[Row]:
        drawn_rows: list[Row] = []
        published: dict[str, Row] = {}
        for number, facts in enumerate(runs):
            if arch not in facts.scores:
                continue
            shade = theme.runs[number % len(theme.runs)]
            drawn_rows.append((facts.name, None, shade))
            for text, score, colour in rows_of(facts, arch):
                if isinstance(score, Published):
                    at = f"{score.method}, {score.ipc} per class"
                    published[f"{at} {score.dataset}"] = (at, score, colour)
                else:
                    drawn_rows.append((text, score, shade if colour in ("own", "average") else colour))
        heading: list[Row] = [("published", None, "published")] if published else []
        return [*drawn_rows, *heading, *published.values()]

    says = "mean of the networks, with the sample standard deviation; ticks: single networks"
    height = 1.15 + 0.36 * len(rows(LIGHT))
    title = f"{words.network(arch)} trained on…"
    return drawn(title, says, height, lambda axes, theme: draw_rows(axes, theme, rows(theme)))


def _losses(runs: Sequence[Facts]) -> Drawn:
    names = {objectives.loss(facts.about.objective) for facts in runs if facts.history is not None}
    name = names.pop() if len(names) == 1 else "loss"

    def draw(axes: "Axes", theme: Theme) -> None:
        values, lines = [], {}
        for number, facts in enumerate(runs):
            if facts.history is None:
                continue
            shade = theme.runs[number % len(theme.runs)]
            smooth = trend(numbers(facts.history.loss.mean))
            style = "o" if len(smooth) == 1 else "-" if number < len(theme.runs) else "--"
            (lines[facts.name],) = axes.plot(facts.history.first, smooth, style, color=shade, linewidth=2)
            values.append(smooth)
        axes.set(xlabel="iteration", ylabel=name)
        axes.margins(x=0.02)
        plain_ticks(axes)
        by_power(axes, np.concatenate(values))
        axes.legend(list(lines.values()), list(lines), frameon=False, fontsize=8.5, labelcolor=theme.ink)

    return drawn(name.capitalize(), "means around each iteration", 3.6, draw)


def page_of(runs: Sequence[Facts], plots: Mapping[str, Drawn]) -> str:
    """The page of a comparison, as HTML that needs nothing else."""
    values = {
        "title": f"{words.count(len(runs), 'run')} compared",
        "runs": [{"facts": facts, "lead": lead(facts), "number": i % 6} for i, facts in enumerate(runs)],
        "rows": _rows(runs),
        "plots": list(plots.values()),
        "settings": _differing(runs),
        "lacking": [f"{facts.name}: {sentence}" for facts in runs for sentence in facts.missing],
        **_images(runs),
    }
    return environment().get_template("comparison.html").render(values)


def _rows(runs: Sequence[Facts]) -> list[dict[str, Any]]:
    """The table of figures: a row for each figure, a cell for each run; rows in which no run has anything are left out.

    The best accuracy of distilled images is marked, where the runs are of one dataset and one of them leads.
    """
    rows: list[dict[str, Any]] = []

    def add(label: str, cells: list[str], best: int | None = None) -> None:
        if any(cell != "–" for cell in cells):
            rows.append({"label": label, "cells": cells, "best": best})

    is_one_dataset = len({facts.about.dataset for facts in runs}) == 1
    archs = dict.fromkeys(arch for facts in runs for arch in facts.scores)
    for arch in archs:
        lasts = [facts.scores[arch].last if arch in facts.scores else {} for facts in runs]
        for kind in dict.fromkeys(kind for last in lasts for kind in last):
            means = [last[kind].mean if kind in last else -1.0 for last in lasts]
            others = sorted(means)[:-1]
            leads = kind in VARIANTS and is_one_dataset and max(means) > others[-1] >= 0
            best = means.index(max(means)) if leads else None
            cells = [f"{words.accuracy(last[kind])} %" if kind in last else "–" for last in lasts]
            add(f"{words.network(arch)}, {words.kind(kind)}", cells, best)
    sizes = [facts.size for facts in runs]
    add("images per class", [f"{size.images_per_class:,}" if size else "–" for size in sizes])
    bytes_ = [
        size.bytes_per_class * size.classes if size and size.bytes_per_class is not None else None for size in sizes
    ]
    add("bytes of the set", ["–" if number is None else words.size(number) for number in bytes_])
    add("iterations", [f"{facts.about.iterations:,}" for facts in runs])
    seconds = [facts.times.iterations_wall_s for facts in runs]
    add("time of all iterations", ["–" if second is None else words.duration(second) for second in seconds])
    medians = [facts.history.seconds if facts.history else None for facts in runs]
    add("one iteration (median)", ["–" if second is None else words.duration(second) for second in medians])
    for stage in ("prepare", "buffer", "distill", "evaluate"):
        times = [getattr(facts.times, stage) for facts in runs]
        add(f"CPU time of {stage}", ["–" if time is None else words.duration(time.cpu_s) for time in times])
    return rows


def _differing(runs: Sequence[Facts]) -> list[dict[str, Any]]:
    """The settings that are not the same in all runs, by name; `–` where a run does not have or does not read one."""
    of_runs = [{entry.name: entry.value for entry in facts.settings} for facts in runs]
    rows = []
    for name in sorted({name for values in of_runs for name in values}):
        cells = [_written(values[name]) if name in values else "–" for values in of_runs]
        if len(set(cells)) > 1:
            rows.append({"label": name, "cells": cells})
    return rows


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _images(runs: Sequence[Facts]) -> dict[str, Any]:
    """The first image of each class of each run, where the runs have the same classes; of many, the first ones."""
    classes = runs[0].about.classes
    shown = [facts.pictures if facts.about.classes == classes else None for facts in runs]
    if not all(pictures is not None and pictures.variants for pictures in shown):
        return {"image_rows": [], "pixels": True, "left_out": 0}
    first = [next(iter(pictures.variants.values())) for pictures in shown if pictures is not None]
    rows = [
        {"label": name, "cells": [by_class[position][0] for by_class in first]}
        for position, name in enumerate(classes[:MOST_CLASSES])
    ]
    side = min(pictures.side for pictures in shown if pictures is not None)
    return {"image_rows": rows, "pixels": side < SMOOTH_FROM, "left_out": max(0, len(classes) - MOST_CLASSES)}
