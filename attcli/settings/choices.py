"""Which settings only some choices read: one table, from which identities and the checks follow."""

from typing import Any

from attcli import registry
from attcli.settings.distill import Distill
from attcli.settings.models import Settings

SCORES = ("el2n", "grand", "forgetting")
"""What attcli itself finds out about how hard images are."""

READ_BY: dict[str, dict[str, tuple[str, ...]]] = {
    "prepare.normalise": {"zca": ("prepare.zca_eps",), "contrast": ("prepare.zca_eps",)},
    "distill.window": {"expanding": ("distill.current_max_start_epoch", "distill.expansion_end")},
    "distill.labels": {
        "learned": ("distill.lr_labels", "distill.momentum_labels", "distill.label_storage", "distill.label_init")
    },
    "distill.label_storage": {"uint8": ("distill.scales_every", "distill.scales_until")},
    "distill.select": {"nearest": ("distill.select_metric", "distill.patience")},
    "buffer.curriculum": {
        "easy-first": ("buffer.curriculum_start", "buffer.curriculum_growth", "buffer.difficulty"),
    },
    "buffer.difficulty": dict.fromkeys(SCORES, ("buffer.difficulty_networks", "buffer.difficulty_epochs")),
    "distill.emphasis": {"cam": ("distill.emphasis_every", "distill.emphasis_added")},
    "distill.init": {"ranked": ("distill.rank_offset", "buffer.difficulty")},
    "distill.compare": {"deep": ("distill.left_out",), "far": ("distill.left_out",)},
}
"""For a setting that chooses: what each of its values reads that others do not. Objectives say it themselves."""

MATCHING = "trajectory"
"""The objective that the others differ from."""

DECLARED = ("dataset", "network", "trainer", "objective", "parameterisation", "storage")
"""Kinds whose choices declare their options beside themselves."""


def readers() -> dict[str, dict[str, tuple[str, ...]]]:
    """The whole table, with the options that choices declare."""
    table = dict(READ_BY)
    for kind in DECLARED:
        setting = registry.KINDS[kind].setting
        section = setting.split(".", maxsplit=1)[0]
        table[setting] = {
            name: (*_declared(kind, name, section), *READ_BY.get(setting, {}).get(name, ()))
            for name in registry.names(kind)
        }
    for name, options in table["distill.objective"].items():
        table["distill.objective"][name] = (*options, *read_by(name))
    return table


def read_by(objective: str) -> tuple[str, ...]:
    """The settings that an objective reads, of those that not all read, besides the options that it declares.

    One that does not say it (`READS`) may read all that trajectory matching reads and declares, but no option that only
    another objective declares.
    """
    said: tuple[str, ...] | None = getattr(registry.module("objective", objective), "READS", None)
    if said is not None:
        return said
    return (*registry.module("objective", MATCHING).READS, *_declared("objective", MATCHING, "distill"))


def unrolls(distill: Distill) -> bool:
    """Whether all of a student's steps are held at once, by the engine that was asked for to match trajectories."""
    return distill.engine == "unroll" and "distill.engine" in read_by(distill.objective)


def _declared(kind: str, name: str, section: str) -> list[str]:
    """The options that a choice declares and always reads: not those that only a value of another option reads."""
    own = [f"{section}.{option}" for option in registry.options(kind, name)]
    some = {option for setting in own for options in READ_BY.get(setting, {}).values() for option in options}
    return [option for option in own if option not in some]


def idle(settings: Settings) -> set[str]:
    """The dotted names of the settings that nothing reads, as no choice that reads them was made."""
    unread: set[str] = set()
    while (more := _unread(settings, without=unread)) != unread:
        unread = more
    return unread


def _unread(settings: Settings, without: set[str]) -> set[str]:
    """The settings that no choice reads, if those of `without` choose nothing, as they are not read themselves."""
    unread: set[str] = set()
    read: set[str] = set()
    for setting, by_value in readers().items():
        section, name = setting.split(".")
        choice: Any = getattr(getattr(settings, section), name)
        if isinstance(choice, str):
            choice = registry.base(choice)
        for value, options in by_value.items():
            (read if value == choice and setting not in without else unread).update(options)
    return unread - read
