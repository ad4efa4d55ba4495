"""How experts are trained: one file a trainer, found by its name; `training` is what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attcli import registry

if TYPE_CHECKING:
    from attcli.trainers.training import Descent


def gradients(name: str) -> int:
    """How many gradients a step of the trainer of that name takes: its module's GRADIENTS, or one."""
    return int(getattr(registry.module("trainer", name), "GRADIENTS", 1))


def load(name: str, **options: Any) -> Descent:
    """The direction that the trainer of that name descends; options are those that it declares."""
    descent: Descent = registry.module("trainer", name).descent(**options)
    return descent
