"""The history of a run, cut down to what a plot can show, whatever the number of iterations."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from attcli.report.model import Course, History, Numbers
from attcli.store.artefact import Arrays

MOST_STRETCHES = 600
"""Stretches of iterations that a plot has."""

DIGITS = 6
"""Significant digits that are kept of a number."""


def of_history(arrays: Arrays, steps: int | None, *, chosen: bool = True) -> History | None:
    """What a history's columns tell; None where they are empty. `steps`: the steps of a student.

    chosen: whether one of these is chosen to be matched, as in trajectory matching. Every stretch has the same number
    of iterations, the last one perhaps fewer.
    """
    iterations = len(arrays["iteration"])
    if not iterations:
        return None
    stretch = -(-iterations // MOST_STRETCHES)
    seconds = np.asarray(arrays["seconds"], float)
    seconds = seconds[np.isfinite(seconds)]
    return History(
        iterations=iterations,
        stretch=stretch,
        first=[int(i) for i in arrays["iteration"][::stretch]],
        loss=_course(arrays["loss"], stretch),
        step=_course(arrays["step"], stretch) if chosen else None,
        lr=_course(arrays["lr"], stretch),
        steps=steps,
        not_accepted=int((np.asarray(arrays["accepted"]) == 0).sum()),
        seconds=round(float(np.median(seconds)), 4) if len(seconds) else None,
    )


def _course(values: NDArray[np.generic], stretch: int) -> Course:
    """A column in stretches; what is not finite is left out of them."""
    rows = [_range(part) for part in _parts(np.asarray(values, float), stretch)]
    low, mean, high = ([row[position] for row in rows] for position in range(3))
    return Course(low=low, mean=mean, high=high)


def _parts(values: NDArray[np.float64], stretch: int) -> Iterator[NDArray[np.float64]]:
    for begin in range(0, len(values), stretch):
        part = values[begin : begin + stretch]
        yield part[np.isfinite(part)]


def _range(part: NDArray[np.float64]) -> Numbers:
    """The smallest, the mean and the largest of finite numbers; three times None where there are none."""
    if not len(part):
        return [None, None, None]
    return [float(f"{value:.{DIGITS}g}") for value in (part.min(), part.mean(), part.max())]
