"""The plots of a report: loss, matched step and learning rate over the iterations, and the scores of each network."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attcli import objectives
from attcli.records.model import Published, Score
from attcli.report import words
from attcli.report.looks import Drawn, Theme, drawn
from attcli.report.model import Course, Facts, History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 2.9
"""Inches of a plot over the iterations."""

PUBLISHED_FOR = "convnet"
"""The network of published values."""

TREND = 15
"""Stretches on either side that the trend is the mean of, at most."""

LOGARITHMIC_FROM = 30.0
"""How many times the smallest loss the largest is where the axis becomes logarithmic."""

Floats = NDArray[np.float64]


def file_name(*parts: str) -> str:
    """A file's name of the characters that every file system has."""
    return "-".join(re.sub(r"[^a-z0-9._]+", "-", part.lower()).strip("-.") or "x" for part in parts)


def of_run(facts: Facts) -> dict[str, Drawn]:
    """The plots of a run by the name of their file; none of what the run has no data for."""
    plots = {file_name("scores", arch): _scores(facts, arch) for arch in facts.scores}
    if facts.history is not None:
        plots["loss"] = _loss(facts.history, objectives.loss(facts.about.objective))
        if facts.history.step is not None:
            plots["step"] = _step(facts.history, facts.history.step)
        if _moves(facts.history.lr):
            plots["lr"] = _lr(facts.history)
    return plots


def numbers(values: Sequence[float | None]) -> Floats:
    """Numbers as an array, NaN for what was not finite."""
    return np.asarray([np.nan if value is None else value for value in values], float)


def trend(values: Floats) -> Floats:
    """The mean around each number, over at most a tenth of all of them; NaN where none there is finite."""
    half = min(TREND, len(values) // 20)
    finite = np.isfinite(values)
    kernel = np.ones(2 * half + 1)
    total = np.convolve(np.where(finite, values, 0), kernel)[half : half + len(values)]
    count = np.convolve(finite.astype(float), kernel)[half : half + len(values)]
    return np.where(count > 0.5, total / np.maximum(count, 1), np.nan)


def _band(axes: "Axes", history: History, course: Course, colour: str) -> None:
    """Every iteration, or the range of every stretch, faintly, and the trend over it."""
    at = np.asarray(history.first, float)
    low, mean, high = map(numbers, (course.low, course.mean, course.high))
    if history.stretch > 1:
        axes.fill_between(at, low, high, color=colour, alpha=0.22, linewidth=0)
    else:
        axes.plot(at, mean, color=colour, alpha=0.35, linewidth=0.9)
    axes.plot(at, trend(mean), color=colour, linewidth=2)
    axes.set_xlabel("iteration")
    axes.margins(x=0.01)
    plain_ticks(axes)


def plain_ticks(axes: "Axes") -> None:
    """Iterations as whole numbers with separators."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def by_power(axes: "Axes", values: Floats) -> None:
    """A logarithmic axis with plain numbers, where values differ by much."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    positive = values[np.isfinite(values) & (values > 0)]
    if len(positive) == 0 or positive.max() < LOGARITHMIC_FROM * positive.min():
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend(history: History) -> str:
    """What the faint part of a plot is, in words."""
    if history.stretch == 1:
        return "faint: each iteration; bold: mean around it"
    return f"faint: smallest to largest of {history.stretch:,} iterations; bold: mean"


def _moves(course: Course) -> bool:
    """Whether a number changes over the iterations."""
    values = numbers([*course.low, *course.high])
    values = values[np.isfinite(values)]
    return len(values) > 0 and bool(values.max() > values.min() or len(course.mean) == 1)


def _loss(history: History, name: str) -> Drawn:
    def draw(axes: "Axes", theme: Theme) -> None:
        _band(axes, history, history.loss, theme.own)
        by_power(axes, numbers([*history.loss.low, *history.loss.high]))
        axes.set_ylabel(name)

    return drawn(name.capitalize(), _legend(history), HEIGHT, draw)


def _step(history: History, course: Course) -> Drawn:
    def draw(axes: "Axes", theme: Theme) -> None:
        _band(axes, history, course, theme.own)
        axes.set_ylabel("student's step")
        if history.steps:
            axes.set_ylim(0, history.steps * 1.12)
            axes.axhline(history.steps, color=theme.muted, linewidth=0.9, linestyle=(0, (4, 3)))
            place: dict[str, Any] = {"textcoords": "offset points", "va": "bottom", "ha": "right", "color": theme.muted}
            axes.annotate(f"last of {history.steps}", (0.99, history.steps), (0, 3), ("axes fraction", "data"), **place)

    return drawn("Step that was matched", _legend(history), HEIGHT, draw)


def _lr(history: History) -> Drawn:
    def draw(axes: "Axes", theme: Theme) -> None:
        at, mean = np.asarray(history.first, float), numbers(history.lr.mean)
        axes.plot(at, mean, color=theme.own, linewidth=2)
        axes.set(xlabel="iteration", ylabel="student's learning rate")
        axes.margins(x=0.01)
        plain_ticks(axes)
        finite = np.flatnonzero(np.isfinite(mean))
        for i in finite[-1:]:
            axes.plot(at[i], mean[i], "o", color=theme.own, markersize=5)
            axes.annotate(f"{mean[i]:.3g}", (at[i], mean[i]), (0, 7), textcoords="offset points", ha="right")
        axes.margins(x=0.02, y=0.16)

    return drawn("Learned learning rate", "the rate that the student trains with, after each update", HEIGHT, draw)


Row = tuple[str, Score | Published | None, str]
"""What a row of a plot of scores shows: its words, the score, and its colour, by the name that a theme has for it.

A row without a score is a heading of those below it.
"""


def rows_of(facts: Facts, arch: str) -> list[Row]:
    """The rows of a network's scores: the set, its baselines, and for a ConvNet what was published."""
    colours = {"synthetic": "own", "ema": "average"}
    last = facts.scores[arch].last
    rows: list[Row] = [(words.kind(kind), score, colours.get(kind, "muted")) for kind, score in last.items()]
    if arch == PUBLISHED_FOR:
        rows += [(f"published: {value.method}", value, "published") for value in facts.published]
    return rows


def value_of(score: Score | Published) -> float:
    """The mean accuracy in percent."""
    return score.mean if isinstance(score, Score) else score.accuracy


def draw_rows(axes: "Axes", theme: Theme, rows: Sequence[Row]) -> None:
    """Scores as points with error bars, a row each from the top, each with its number."""
    above: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8.5}
    for position, (text, score, colour) in enumerate(rows):
        shade = colour if colour.startswith("#") else getattr(theme, colour)
        if score is None:
            axes.text(0, position, text, color=shade, weight="bold", va="center", transform=axes.get_yaxis_transform())
            continue
        mean = value_of(score)
        accuracies = score.accuracies if isinstance(score, Score) and score.accuracies else []
        axes.plot(accuracies, [position] * len(accuracies), "|", color=shade, alpha=0.45, markersize=9)
        axes.errorbar(mean, position, xerr=score.sd or None, fmt="o", color=shade, capsize=3, markersize=6)
        spread = "" if score.sd is None else f" ± {score.sd:.1f}"
        axes.annotate(f"{mean:.1f}{spread}", (mean, position), (0, 5), color=theme.ink, **above)
    axes.set_yticks(range(len(rows)), [text if score else "" for text, score, _ in rows])
    axes.tick_params(axis="y", colors=theme.ink)
    axes.set_ylim(len(rows) - 0.5, -0.75)
    axes.set_xlim(*_limits([score for _, score, _ in rows if score]))
    axes.set_xlabel("accuracy on test images (%)")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _limits(scores: Sequence[Score | Published]) -> tuple[float, float]:
    """The ends of an axis of accuracies: with room for the numbers, and never beyond 0 to 100 by more than that."""
    spreads = [(value_of(score), score.sd or 0) for score in scores]
    low, high = min(mean - sd for mean, sd in spreads), max(mean + sd for mean, sd in spreads)
    room = max(1.5, 0.16 * (high - low))
    return max(low - room, -6.0), min(high + room, 106.0)


def _scores(facts: Facts, arch: str) -> Drawn:
    rows = rows_of(facts, arch)
    says = "mean of the networks, with the sample standard deviation; ticks: single networks"
    title = f"{words.network(arch)} trained on…"
    return drawn(title, says, 1.15 + 0.42 * len(rows), lambda axes, theme: draw_rows(axes, theme, rows))
