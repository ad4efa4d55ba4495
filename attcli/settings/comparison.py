"""Two sets of settings beside each other."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from attcli.settings import recipes
from attcli.settings.layers import Resolved, resolve, values_of
from attcli.settings.models import CONTENT


class Side(NamedTuple):
    """A setting's value on one side, and where that value is from."""

    value: Any
    source: str


Sides = dict[str, tuple[Side, Side]]
"""The settings that differ, by dotted name: the first side, and the second one."""


def of_recipe(name: str) -> Resolved:
    """All settings as the recipe of that name has them; no other file and no variable is read. UserError if none is."""
    recipe = recipes.get(name)
    selectors = recipe.experiment.settings()
    resolved = resolve(selectors, environ={}, recipe=recipe.name, ignore_params=True)
    return replace(resolved, origin={**resolved.origin, **dict.fromkeys(selectors, f"recipe {recipe.name}")})


def sides_of(resolved: Resolved) -> dict[str, Side]:
    """Every setting's value with the layer that it came from."""
    return {name: Side(value, resolved.origin[name]) for name, value in values_of(resolved.settings).items()}


def differing(first: Mapping[str, Side], second: Mapping[str, Side]) -> Sides:
    """The settings of both whose values differ, in the first one's order."""
    return {
        name: (side, second[name])
        for name, side in first.items()
        if name in second and side.value != second[name].value
    }


def recipes_differ(first: str, second: str) -> Sides:
    """The settings in which two recipes differ, each value with its source. UserError for a name of none.

    What a recipe does not say has the value of its method's own choice, of its dataset's, or the default.
    """
    return differing(_with_sources(first), _with_sources(second))


def _with_sources(name: str) -> dict[str, Side]:
    """The content settings of a recipe, each with its source in words."""
    sides = sides_of(of_recipe(name))
    return {
        key: Side(side.value, _source(recipes.get(name), key, side.source))
        for key, side in sides.items()
        if key.partition(".")[0] in CONTENT
    }


def _source(recipe: recipes.Recipe, key: str, origin: str) -> str:
    """Where a value of a recipe is from, in words; its origin where the recipe does not say it."""
    if key in recipe.experiment.settings():
        return "the recipe's name"
    entry = recipe.values.get(key)
    if entry is None:
        return origin
    return f"{entry.source.removesuffix('; unverified')}{f'; unverified: {entry.doubt}' if entry.doubt else ''}"
