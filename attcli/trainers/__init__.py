"""How experts are trained: one file a trainer, found by its name; `training` is what they share."""

from importlib import import_module
from typing import Any

from attcli.trainers.training import Descent


def load(name: str, **options: Any) -> Descent:
    """The direction that the trainer of that name descends; options are those that its `descent` takes."""
    descent: Descent = import_module(f"attcli.trainers.{name}").descent(**options)
    return descent


def options(name: str) -> tuple[str, ...]:
    """The names of a trainer's options, which are settings of `buffer`."""
    found: tuple[str, ...] = import_module(f"attcli.trainers.{name}").OPTIONS
    return found
