"""Published hyper-parameters: a folder a method, a YAML file a dataset, each value with its source."""

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
def all_recipes() -> dict[str, Recipe]:
    """Every recipe by name, in the order of the files."""
    found: dict[str, Recipe] = {}
    for path in sorted(FOLDER.glob("*/*.yaml")):
        content = read_yaml(path)
        sources: dict[str, str] = content["sources"]
        shared = content.get("shared", {})
        for name, entry in content["recipes"].items():
            values = {}
            for key, given in {**shared, **entry["values"]}.items():
                value, source, *doubt = given
                values[key] = Value(value, sources[source], doubt[0] if doubt else None)
            found[name] = Recipe(name, entry["title"], values, entry.get("published"))
    return found


def find(method: str, dataset: str, ipc: int) -> Recipe | None:
    """The recipe for a method, dataset and ipc; for methods joined by `+`, that of the last one that has one."""
    names = (name_of(part, dataset, ipc) for part in (method, *reversed(method.split("+"))))
    return next((all_recipes()[name] for name in names if name in all_recipes()), None)


def get(name: str) -> Recipe:
    """The recipe of that name; UserError, with the nearest name, if there is none."""
    return all_recipes()[registry.known("recipe", name, all_recipes())]
