"""Published hyper-parameters: a folder per method, a YAML file per dataset, each value with its source."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from attcli import registry
from attcli.settings.files import read_yaml

FOLDER = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True)
class Value:
    """A setting's value, where it was published, and what is doubtful about it."""

    value: Any
    source: str
    doubt: str | None = None


@dataclass(frozen=True)
class Recipe:
    """The settings of one published (or, for the embedded digits, tuned) experiment, by dotted name."""

    name: str
    title: str
    values: dict[str, Value]
    published: dict[str, Any] | None

    def settings(self) -> dict[str, Any]:
        """The values alone, by dotted name."""
        return {key: entry.value for key, entry in self.values.items()}


def name_of(method: str, dataset: str, ipc: int) -> str:
    """The name of the recipe for a method, dataset and number of images per class."""
    return f"{method}/{dataset}/ipc{ipc}"


@cache
def _of_file(path: Path) -> dict[str, Recipe]:
    """The recipes of one file, by name."""
    recipes: dict[str, Recipe] = {}
    content = read_yaml(path)
    sources: dict[str, str] = content["sources"]
    shared = content.get("shared", {})
    for name, entry in content["recipes"].items():
        values = {}
        for key, given in {**shared, **entry["values"]}.items():
            value, source, *doubt = given
            values[key] = Value(value, sources[source], doubt[0] if doubt else None)
        recipes[name] = Recipe(name, entry["title"], values, entry.get("published"))
    return recipes


def _of(method: str, dataset: object) -> dict[str, Recipe]:
    """The recipes of a method on a dataset, by name; a file holds them."""
    if method not in registry.names("method"):
        return {}
    module = registry.datasets_of_this_package().get(str(dataset), "").rpartition(".")[2]
    for name in (dataset, module):  # a family of datasets shares a file, as it shares a module
        path = FOLDER / method / f"{name}.yaml"
        if name and path.is_file() and path.parent.parent == FOLDER:
            return {key: recipe for key, recipe in _of_file(path).items() if key.split("/")[1] == dataset}
    return {}


def all_recipes() -> dict[str, Recipe]:
    """Every recipe by name, in the order of the files."""
    return {name: recipe for path in sorted(FOLDER.glob("*/*.yaml")) for name, recipe in _of_file(path).items()}


def _methods(method: str) -> list[str]:
    """The methods whose recipes may serve; for methods joined by `+`, the last one first."""
    return list(dict.fromkeys([method, *reversed(method.split("+"))]))


def find(method: str, dataset: str, ipc: int) -> Recipe | None:
    """The recipe for a method, dataset and ipc; for methods joined by `+`, that of the last one that has one."""
    candidates = ((_of(part, dataset), name_of(part, dataset, ipc)) for part in _methods(method))
    return next((recipes[name] for recipes, name in candidates if name in recipes), None)


def nearest(method: str, dataset: str, ipc: int) -> Recipe | None:
    """The recipe of the nearest number of images per class (of two, the smaller) of the same method and dataset."""
    for part in _methods(method):
        by_ipc = {int(name.rpartition("/ipc")[2]): recipe for name, recipe in _of(part, dataset).items()}
        if by_ipc:
            return by_ipc[min(by_ipc, key=lambda other: (abs(other - ipc), other))]
    return None


def get(name: str) -> Recipe:
    """The recipe of that name; UserError, with the nearest name, if there is none."""
    method, _, rest = name.partition("/")
    own = _of(method, rest.partition("/")[0])
    if name in own:
        return own[name]
    return all_recipes()[registry.known("recipe", name, all_recipes(), "see `attcli recipes`")]
