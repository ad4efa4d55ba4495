"""Which settings of a run differ from its recipe's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attcli.errors import UserError
from attcli.records.results import Results, Trained
from attcli.records.scores import Scored
from attcli.scoring.protocol import Protocol
from attcli.settings import Settings, resolve
from attcli.stages import identity

OTHER_NAMES = {"distill.experts": "buffer.experts", "evaluate.name": "evaluate.protocol"}
"""Settings that a file keeps under another name than their own."""

OF_PROTOCOL = ("name", "epochs", "batch", "momentum", "weight_decay", "augment")


@dataclass(frozen=True)
class Changes:
    """The recipe that settings rest on (None without one), and those that differ from what it gives."""

    recipe: str | None
    differing: dict[str, Any]


def changes(results: Results, trained: Trained | None, scored: Scored, learned_lr: float) -> Changes:
    """What differs from the settings that the set's method, dataset and images per class have by themselves.

    Where these are not known here, as those of a plugin that is missing, all settings count as differing.
    """
    ours = _ours(results, trained, scored, learned_lr)
    about = results.about
    selecting = {"distill.method": about["method"], "prepare.dataset": about["dataset"], "distill.ipc": about["ipc"]}
    try:
        resolved = resolve(selecting, environ={}, ignore_params=True)
        theirs = _theirs(resolved.settings)
    except UserError:
        return Changes(None, {**selecting, **ours})
    differing = {name: value for name, value in ours.items() if name not in theirs or theirs[name] != value}
    return Changes(resolved.recipe if resolved.rests_on_recipe else None, differing)


def _ours(results: Results, trained: Trained | None, scored: Scored, learned_lr: float) -> dict[str, Any]:
    """The settings that the files of a run state, by dotted name."""
    sections: dict[str, Any] = {**results.header.settings, "evaluate": _protocol(scored.protocol)}
    prepared = results.about.get("prepare")
    if trained:
        sections = {**trained.settings, **sections}
        prepared = prepared or trained.settings.get("prepare")
    sections["prepare"] = {name: value for name, value in (prepared or {}).items() if name != "seed" or value}
    values = _flat(sections)
    values["distill.iterations"] = results.about["iteration"]
    if trained:
        values["buffer.epochs"] = trained.epochs_each
    if scored.protocol.get("lr", learned_lr) != learned_lr:
        values["evaluate.lr"] = scored.protocol["lr"]
    values["evaluate.repeats"] = _networks(scored)
    return values


def _theirs(settings: Settings) -> dict[str, Any]:
    """The same settings as the recipe has them."""
    evaluate, plain = settings.evaluate, Protocol()  # whose values hold where the settings leave them open
    stated = {name: getattr(evaluate, "protocol" if name == "name" else name) for name in OF_PROTOCOL}
    stated["augment"] = stated["augment"] or settings.distill.augment
    protocol = {name: getattr(plain, name) if value is None else value for name, value in stated.items()}
    sections = {
        **identity.distillation(settings),
        "prepare": identity.content(settings, "prepare", "allow_unreadable"),
        "buffer": {**identity.content(settings, "buffer", "experts", "epochs"), "seed": settings.seed_of("buffer")},
        "evaluate": protocol,
    }
    values = _flat(sections)
    values["distill.iterations"] = settings.distill.iterations
    values["buffer.epochs"] = settings.epochs
    values["evaluate.repeats"] = evaluate.repeats
    return values


def _protocol(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {name: protocol[name] for name in OF_PROTOCOL if name in protocol}


def _networks(scored: Scored) -> int:
    """How many networks of an architecture were trained on the set."""
    return max(score.n for scores in scored.scores.values() for score in scores.last.values())


def _flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    flat = {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}
    return {OTHER_NAMES.get(name, name): value for name, value in flat.items()}
