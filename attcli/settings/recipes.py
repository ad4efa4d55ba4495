"""Published hyper-parameters: a folder per method, a YAML file per dataset, each value with its source."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from attcli import registry
from attcli.errors import UserError, brief
from attcli.settings.distill import Distill
from attcli.settings.files import read_yaml
from attcli.settings.spelling import canonical

FOLDER = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True)
class Value:
    """A setting's value, where it was published, and what is doubtful about it."""

    value: Any
    source: str
    doubt: str | None = None


class Experiment(NamedTuple):
    """What a recipe is for; written as the recipe's name, `method/dataset/ipcN`."""

    method: str
    dataset: str
    ipc: int

    def __str__(self) -> str:
        return f"{self.method}/{self.dataset}/ipc{self.ipc}"

    def settings(self) -> dict[str, Any]:
        """The settings that a recipe is found by, by dotted name."""
        return {"distill.method": self.method, "prepare.dataset": self.dataset, "distill.ipc": self.ipc}


def parse(name: str) -> Experiment | None:
    """What the name `method/dataset/ipcN` stands for, with names in any case; None if it is not of that form."""
    if not (parts := re.fullmatch(r"([^/]+)/([^/]+)/ipc([0-9]{1,9})", name.strip(), re.IGNORECASE)):
        return None
    method, dataset, ipc = parts.groups()
    return Experiment(canonical("distill.method", method), canonical("prepare.dataset", dataset), int(ipc))


@dataclass(frozen=True)
class Recipe:
    """The settings of one published (or, for the embedded digits, tuned) experiment, by dotted name."""

    name: str
    title: str
    values: dict[str, Value]
    published: dict[str, Any] | None

    @property
    def experiment(self) -> Experiment:
        """What it is for."""
        experiment = parse(self.name)
        assert experiment is not None
        return experiment

    def settings(self) -> dict[str, Any]:
        """The values alone, by dotted name."""
        return {key: entry.value for key, entry in self.values.items()}


@cache
def _of_file(path: Path) -> dict[str, Recipe]:
    """The recipes of one file, by name."""
    recipes: dict[str, Recipe] = {}
    content = read_yaml(path)
    sources: dict[str, str] = content["sources"]
    shared = content.get("shared", {})
    for name, entry in content["recipes"].items():
        values = {}
        for key, entry_of_key in {**shared, **entry["values"]}.items():
            value, source, *doubt = entry_of_key
            values[key] = Value(value, sources[source], doubt[0] if doubt else None)
        recipes[name] = Recipe(name, entry["title"], values, entry.get("published"))
    return recipes


def _of(method: str, dataset: str) -> dict[str, Recipe]:
    """The recipes of a method on a dataset, by name; a file holds them. None for names that nothing has."""
    if not set(method.split("+")) <= set(registry.names("method")) or dataset not in registry.names("dataset"):
        return {}
    module = registry.datasets_of_this_package().get(dataset, "").rpartition(".")[2]
    for name in (dataset, module):  # a family of datasets shares a file, as it shares a module
        path = FOLDER / method / f"{name}.yaml"
        if name and path.is_file():
            return {key: recipe for key, recipe in _of_file(path).items() if recipe.experiment.dataset == dataset}
    return {}


def all_recipes() -> dict[str, Recipe]:
    """Every recipe by name, in the order of the files."""
    return {name: recipe for path in sorted(FOLDER.glob("*/*.yaml")) for name, recipe in _of_file(path).items()}


def _methods(method: str) -> list[str]:
    """The methods whose recipes may serve; for methods joined by `+`, the last one first."""
    return list(dict.fromkeys([method, *reversed(method.split("+"))]))


def find(method: str, dataset: str, ipc: int) -> Recipe | None:
    """The recipe for a method, dataset and ipc; for methods joined by `+`, that of the last one that has one."""
    candidates = ((_of(part, dataset), str(Experiment(part, dataset, ipc))) for part in _methods(method))
    return next((recipes[name] for recipes, name in candidates if name in recipes), None)


def nearest(method: str, dataset: str, ipc: int) -> Recipe | None:
    """The recipe of the nearest number of images per class (of two, the smaller) of the same method and dataset."""
    for part in _methods(method):
        by_ipc = {recipe.experiment.ipc: recipe for recipe in _of(part, dataset).values()}
        if by_ipc:
            return by_ipc[min(by_ipc, key=lambda other: (abs(other - ipc), other))]
    return None


def get(name: str) -> Recipe:
    """The recipe of that name, which may be written in any case; UserError, with the nearest name, if there is none."""
    if (experiment := parse(name)) and (recipe := _of(experiment.method, experiment.dataset).get(str(experiment))):
        return recipe
    if recipe := all_recipes().get(name):
        return recipe
    near = _most_alike(name)
    raise UserError(f"unknown recipe {brief(name)}; {f'did you mean {near!r}? ' if near else ''}see `attcli recipes`")


def _most_alike(name: str) -> str | None:
    """The recipe that shares the most parts with a name that none has; of several, the nearest ipc, then spelling.

    Where no method is named, recipes of the default method come first.
    """
    experiment = parse(name)
    usual: str = Distill.model_fields["method"].default
    parts = set(str(experiment or name).lower().split("/"))

    def likeness(recipe: Recipe) -> tuple[int, int, bool, float]:
        other = recipe.experiment
        distance = abs(other.ipc - experiment.ipc) if experiment else 0
        shared = parts & set(recipe.name.split("/"))
        spelling = SequenceMatcher(None, recipe.name, name).ratio()
        return (
            len(shared),
            -distance,
            other.dataset in shared and experiment is None and other.method == usual,
            spelling,
        )

    best = max(all_recipes().values(), key=likeness)
    shared, _, _, ratio = likeness(best)
    return best.name if shared or ratio > 0.6 else None
