"""Records as rows of a table: the size of each set, and a ConvNet's accuracy by each rule."""

from typing import Any

from attcli.options import VARIANTS
from attcli.records.model import Record, Score

NETWORK = "convnet"
"""The network whose accuracy is listed, which is the one of most publications."""


def row(record: Record) -> dict[str, Any]:
    """A record as a row: name, dataset, sizes, iterations, and accuracies.

    `last`, `selected` and `largest` are by kind, `published` is by method. Accuracies are means in percent. A rule is
    None where it was not applied, as is every value that is not known.
    """
    of_network = record.scores.get(NETWORK)
    rules = {name: getattr(of_network, name, None) for name in ("last", "selected", "largest")}
    random = (rules["last"] or {}).get("random")
    return {
        "name": record.name,
        "dataset": record.dataset,
        "images_per_class": record.size.images_per_class,
        "bytes_per_class": record.size.bytes_per_class,
        "float32_ipc": record.size.float32_ipc,
        "iterations": record.iterations,
        **{rule: _means(entries) for rule, entries in rules.items()},
        "random": random.mean if random else None,
        "published": {value.method: value.accuracy for value in record.published},
    }


def _means(entries: dict[str, Score] | None) -> dict[str, float] | None:
    """The means of the set and of its moving average."""
    return None if entries is None else {kind: entries[kind].mean for kind in VARIANTS if kind in entries}
