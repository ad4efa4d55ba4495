"""What is said of several networks' results: mean, spread, accuracy of each class, and confusion."""

import json
import re
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from attcli.scoring.scorer import Result

NUMBERS = re.compile(r"\[\n[^\[\]{}\"]*\]")
"""A list of numbers alone, spread over lines; no string of JSON has a line break."""


def as_json(report: Mapping[str, Any]) -> str:
    """A report as JSON with each list of numbers, such as a row of a confusion matrix, on one line."""

    def on_one_line(numbers: re.Match[str]) -> str:
        return f"[{' '.join(numbers[0][1:-1].split())}]"

    return NUMBERS.sub(on_one_line, json.dumps(report, indent=2))


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation (none for a single value) of accuracies in percent, and the accuracies."""
    return {
        "mean": round(mean(values), 4),
        "sd": round(stdev(values), 4) if len(values) > 1 else None,
        "n": len(values),
        "accuracies": [round(value, 4) for value in values],
    }


def with_classes(results: Sequence[Result]) -> dict[str, Any]:
    """The summary, and what the networks took each class for.

    confusion: counts (K, K), a row for each true class, added up over the networks. per_class: the accuracy on each
    class in percent, the mean over the networks; None for a class without test images. Both are None where a result
    was kept by an older version, which did not count them.
    """
    entry = summary([result["accuracy"] for result in results])
    if all("last" in result for result in results):
        entry["last"] = summary([result["last"] for result in results])
    if any("confusion" not in result for result in results):
        return {**entry, "per_class": None, "confusion": None}
    matrices = [result["confusion"] for result in results]
    rows = [[sum(counts) for counts in zip(*same_class, strict=True)] for same_class in zip(*matrices, strict=True)]
    per_class = [round(100 * row[c] / sum(row), 4) if sum(row) else None for c, row in enumerate(rows)]
    return {**entry, "per_class": per_class, "confusion": rows}
