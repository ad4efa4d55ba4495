"""The identity of each stage's result: what changes its mathematics, and what went in.

Finished and unfinished work is found by it. How many experts are asked for, how many of their epochs, how many
iterations and repeats is no part of the stage's own, so that asking for more extends what is there.
"""

from typing import Any

from attcli import registry, trainers
from attcli.settings import Network, Settings
from attcli.store import artefact

ALGORITHM = {"prepare": 1, "buffer": 1, "distill": 2, "evaluate": 1}
"""Raise a stage's number when a change of the code alters its results, so that old work is not taken for new."""

Identity = tuple[str, dict[str, object]]
"""The fingerprint, and the settings that it hashes."""


def content(section: Any, *left_out: str) -> dict[str, Any]:
    """A section's settings as plain values, without those that are no part of an identity."""
    values: dict[str, Any] = section.model_dump(mode="json", exclude={*left_out, "seed"})
    return values


def network(chosen: Network) -> dict[str, object]:
    """What identifies the network: the options of a ConvNet are no part of another's identity."""
    return chosen.model_dump() if chosen.arch == "convnet" else {"arch": chosen.arch}


def prepare(settings: Settings) -> Identity:
    """The identity of a prepared dataset."""
    section = settings.prepare
    seeded = bool(section.validation or section.limit_per_class)
    decisive: dict[str, object] = {**content(section), "seed": settings.seed_of("prepare") if seeded else None}
    if section.normalise != "zca":
        decisive.pop("zca_eps")
    return artefact.fingerprint("prepare", ALGORITHM["prepare"], decisive, {}), decisive


def buffer(settings: Settings, dataset_sha256: str) -> Identity:
    """The identity of the experts; how many, and how long, is no part of it."""
    decisive: dict[str, object] = {
        "buffer": {
            **content(settings.buffer, "experts", "epochs", *_idle(settings)),
            "seed": settings.seed_of("buffer"),
        },
        "network": network(settings.network),
        "prepare": prepare(settings)[1],
    }
    return artefact.fingerprint("buffer", ALGORITHM["buffer"], decisive, {"dataset": dataset_sha256}), decisive


def _idle(settings: Settings) -> set[str]:
    """The options of other trainers than the one that is asked for, which change nothing."""
    everything = {option for name in registry.trainers() for option in trainers.options(name)}
    return everything - set(trainers.options(settings.buffer.trainer))


def distillation(settings: Settings) -> dict[str, object]:
    """The settings that decide what a distillation computes; how long it runs is none of them."""
    return {
        "distill": {
            **content(settings.distill, "method", "iterations", "save_every", "max_bad_updates"),
            "label_epoch": settings.label_epoch,
            "seed": settings.seed_of("distill"),
            "experts": settings.buffer.experts,
        },
        "network": network(settings.network),
    }


def distill(settings: Settings, dataset_sha256: str, experts_digest: str) -> Identity:
    """The identity of a distillation."""
    inputs = {"dataset": dataset_sha256, "experts": experts_digest}
    decisive = distillation(settings)
    return artefact.fingerprint("distill", ALGORITHM["distill"], decisive, inputs), decisive
