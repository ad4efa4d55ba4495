"""What there is by name: datasets, networks, methods. Free of torch, so that settings can be checked in no time.

A dataset is a file in `data/sources/`, a network one in `networks/`, a method one in `methods/`: their names are the
files' names, and a dataset's file says what the dataset is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from attcli.errors import UserError

PACKAGE = Path(__file__).parent
NOT_NETWORKS = ("norms",)
NOT_TRAINERS = ("training",)


@dataclass(frozen=True)
class DatasetInfo:
    """The facts of a dataset: its training set's classes, sizes, and shape of its images (channels, side, side).

    `literature` is the mean and the deviation of each channel that published experiments standardise it with.
    """

    name: str
    title: str
    classes: int
    channels: int
    resolution: int
    train: int
    smallest_class: int
    test: int
    value_scale: float = 1 / 255
    literature: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def _modules(folder: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (PACKAGE / folder).glob("*.py") if path.stem != "__init__"))


@cache
def _sources() -> dict[str, tuple[DatasetInfo, ModuleType]]:
    found = {}
    for name in _modules("data/sources"):
        module = import_module(f"attcli.data.sources.{name}")
        for info in module.INFO:
            found[info.name] = (info, module)
    return found


def datasets() -> dict[str, DatasetInfo]:
    """All datasets by name; a source's module may describe several."""
    return {name: info for name, (info, _) in _sources().items()}


def source(name: str) -> ModuleType:
    """The module that loads the dataset `name`."""
    return _sources()[name][1]


@cache
def networks() -> tuple[str, ...]:
    """The names of all networks."""
    return tuple(name for name in _modules("networks") if name not in NOT_NETWORKS)


@cache
def trainers() -> tuple[str, ...]:
    """The names of all ways to train an expert."""
    return tuple(name for name in _modules("trainers") if name not in NOT_TRAINERS)


@cache
def methods() -> tuple[str, ...]:
    """The names of all matching methods."""
    return _modules("methods")


def dataset(name: str) -> DatasetInfo:
    """The facts of the dataset `name`; UserError if there is none."""
    return datasets()[known("dataset", name, datasets())]


def known(kind: str, name: str, names: Iterable[str], listing: str | None = None) -> str:
    """`name`, if it is one of `names`; otherwise a UserError with the nearest one, and all of them or where to look."""
    names = list(names)
    if name in names:
        return name
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"unknown {kind} {name!r}; {hint}{listing or 'there are: ' + ', '.join(names)}")
