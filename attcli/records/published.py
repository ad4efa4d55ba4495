"""What was published for a method, a dataset and a number of images per class."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from attcli.records.model import Published
from attcli.settings.files import read_yaml

FILE = Path(__file__).with_name("published.yaml")


@cache
def _content() -> dict[str, Any]:
    return read_yaml(FILE)


def all_values() -> Iterator[Published]:
    """Every published value, in the order of the file."""
    for method, entry in _content().items():
        facts = {name: entry[name] for name in ("paper", "source", "protocol")}
        for dataset, by_ipc in entry["accuracy"].items():
            for ipc, (accuracy, sd) in by_ipc.items():
                yield Published(method=method, dataset=dataset, ipc=ipc, accuracy=accuracy, sd=sd, **facts)


def find(method: str, dataset: str, ipc: int) -> Published | None:
    """The value that was published; for methods joined by `+` that of the last one that has one. None without any."""
    values = {(value.method, value.dataset, value.ipc): value for value in all_values()}
    names = dict.fromkeys([method, *reversed(method.split("+"))])
    return next((values[key] for name in names if (key := (name, dataset, ipc)) in values), None)


def beside(method: str, parameterisation: str, storage: str, dataset: str, ipc: int) -> list[Published]:
    """What a run is compared with: its method's value, then those of methods that learn or keep images as it does."""
    own = {"parameterisation": parameterisation, "storage": storage}
    names = [name for name, entry in _content().items() if any(entry.get(what) == own[what] for what in own)]
    found = [value for name in (method, *names) if (value := find(name, dataset, ipc)) is not None]
    return list({value.method: value for value in found}.values())
