"""Which settings of a run differ from its recipe's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attcli.errors import UserError
from attcli.records.results import Results, Trained
from attcli.records.scores import Scored
from attcli.scoring.protocol import NUMBERS, protocol_of
from attcli.settings import Resolved, Settings, resolve
from attcli.stages import identity
from attcli.stages.run import NAMES

OTHER_NAMES = {**NAMES, "evaluate.name": "evaluate.protocol"}
"""Settings that a file keeps under another name than their own."""


@dataclass(frozen=True)
class Changes:
    """The recipe that settings rest on (None without one), and those that differ from what it gives."""

    recipe: str | None
    differing: dict[str, Any]


@dataclass(frozen=True)
class Usual:
    """What a set's method, dataset and images per class have by themselves: the values, and where each comes from."""

    values: dict[str, Any]
    resolved: Resolved


def changes(results: Results, trained: Trained | None, scored: Scored, learned_lr: float) -> Changes:
    """What differs from the settings that the set's method, dataset and images per class have by themselves.

    Where these are not known here, as those of a plugin that is missing, all settings count as differing.
    """
    ours = stated(results, trained, scored, learned_lr)
    theirs = usual(results)
    if theirs is None:
        return Changes(None, {**selectors(results), **ours})
    return Changes(recipe_of(theirs), differing(ours, theirs))


def selectors(results: Results) -> dict[str, Any]:
    """The settings that a recipe for the set is found by."""
    about = results.about
    return {"distill.method": about["method"], "prepare.dataset": about["dataset"], "distill.ipc": about["ipc"]}


def usual(results: Results) -> Usual | None:
    """What the set's method, dataset and images per class have by themselves; None where that is not known here."""
    try:
        resolved = resolve(selectors(results), environ={}, ignore_params=True)
        return Usual(_theirs(resolved.settings), resolved)
    except UserError:
        return None


def recipe_of(theirs: Usual) -> str | None:
    """The recipe that the usual settings rest on."""
    return theirs.resolved.recipe if theirs.resolved.rests_on_recipe else None


def differing(ours: Mapping[str, Any], theirs: Usual) -> dict[str, Any]:
    """The stated settings that are not the usual ones."""
    return {name: value for name, value in ours.items() if name not in theirs.values or theirs.values[name] != value}


def stated(results: Results, trained: Trained | None, scored: Scored | None, learned_lr: float) -> dict[str, Any]:
    """The settings that the files of a run state, by dotted name."""
    protocol = scored.protocol if scored else {}
    sections: dict[str, Any] = {**results.header.settings, "evaluate": _protocol(protocol)}
    prepared = results.about.get("prepare")
    if trained:
        sections = {**trained.settings, **sections}
        prepared = prepared or trained.settings.get("prepare")
    sections["prepare"] = {name: value for name, value in (prepared or {}).items() if name != "seed" or value}
    values = _flat(sections)
    values["distill.iterations"] = results.about["iteration"]
    if trained:
        values["buffer.epochs"] = trained.epochs_each
    if protocol.get("lr", learned_lr) != learned_lr:
        values["evaluate.lr"] = protocol["lr"]
    if scored:
        values["evaluate.repeats"] = _networks(scored)
    return values


def _theirs(settings: Settings) -> dict[str, Any]:
    """The same settings as the recipe has them."""
    evaluate = settings.evaluate
    stated = {name: getattr(evaluate, name) for name in NUMBERS if name != "name"}
    stated["augment"] = stated["augment"] or settings.distill.augment
    protocol = protocol_of(evaluate.protocol, stated, {}).stated()
    sections = {
        **identity.distillation(settings),
        "prepare": identity.content(settings, "prepare", "allow_unreadable"),
        "buffer": identity.making_of_experts(settings),
        "evaluate": protocol,
    }
    values = _flat(sections)
    values["distill.iterations"] = settings.distill.iterations
    values["buffer.epochs"] = settings.epochs
    values["evaluate.repeats"] = evaluate.repeats
    return values


def _protocol(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {name: protocol[name] for name in NUMBERS if name in protocol}


def _networks(scored: Scored) -> int:
    """How many networks of an architecture were trained on the set."""
    return max(score.n for scores in scored.scores.values() for score in scores.last.values())


def _flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    flat = {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}
    return {OTHER_NAMES.get(name, name): value for name, value in flat.items()}
