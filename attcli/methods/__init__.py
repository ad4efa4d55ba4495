"""Matching methods: what each one chooses on the axes that the settings have; one file each, found by its name.

A method is a frozen record of choices by name, free of torch: the settings take them where nothing else is said, and
the functions of those names stand in `attcli.matching`, `attcli.trainers` and the stages. So every axis can also be
set on its own, and methods combine: `att+datm` chooses what either of them changes in MTT.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from attcli import registry
from attcli.errors import UserError

BASE = "mtt"


@dataclass(frozen=True)
class Method:
    """One choice per axis.

    trainer: how experts are trained (sgd, or ftd's flat trajectories); select: the student's step that is matched
    (last, nearest); window: where start epochs are drawn from (fixed, expanding); labels: hard, learned as logits, or
    the target expert's (teacher); init: real images, noise, or images that experts get right (correct); max_loss: the
    matching loss above which an update is rejected; engine: how the gradient is computed; parameterisation: how learned
    numbers become images; storage: how each number is kept; objective: what is minimised; also: what it chooses beside
    these axes, by the settings' dotted names.
    """

    trainer: str
    select: str
    window: str
    labels: str
    init: str
    max_loss: float | None
    engine: str
    parameterisation: str = "pixels"
    storage: str = "float32"
    objective: str = "trajectory"
    also: Mapping[str, object] = field(default_factory=dict)

    def axes(self) -> dict[str, object]:
        """The choice on each axis."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "also"}

    def settings(self) -> dict[str, object]:
        """The choices by the settings' dotted names."""
        axes = {("buffer." if name == "trainer" else "distill.") + name: value for name, value in self.axes().items()}
        return {**axes, **self.also}


def load(name: str) -> Method:
    """The method of that name, or several joined by `+`. UserError for an unknown one, or two that contradict."""
    parts = [registry.known("method", part, registry.names("method"), hint=_joined(name)) for part in name.split("+")]
    if twice := next((part for part in parts if parts.count(part) > 1), None):
        raise UserError(f"the method {name!r} names {twice} twice; leave one out")
    choices: dict[str, object] = {}
    by: dict[str, str] = {}
    base = _one(BASE).axes()
    for part in parts:
        method = _one(part)
        changes = {axis: value for axis, value in method.axes().items() if value != base[axis]}
        for axis, value in {**changes, **method.also}.items():
            if axis in choices and choices[axis] != value:
                raise UserError(
                    f"methods {by[axis]} and {part} contradict in {axis} ({choices[axis]}, {value}); "
                    f"name one of them and set the other's choices with --set"
                )
            choices[axis], by[axis] = value, part
    axes = {axis: choices.get(axis, value) for axis, value in base.items()}
    return Method(**axes, also={name: value for name, value in choices.items() if name not in axes})  # type: ignore[arg-type]


def _joined(name: str) -> str:
    """The hint for methods that are joined by something else than one `+` each; empty where that is not the mistake."""
    parts = [part for part in re.split(r"[\s+,;/&|]+", name) if part]
    if len(parts) == 1 and "+" in name:
        return f"a name is missing beside the +: did you mean {parts[0]!r}?"
    alike = all(part.lower() in registry.names("method") for part in parts)
    return f"methods are joined by +: did you mean {'+'.join(parts).lower()!r}?" if len(parts) > 1 and alike else ""


def _one(name: str) -> Method:
    method: Method = registry.module("method", name).METHOD
    return method
