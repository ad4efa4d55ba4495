"""The identity of each stage's result: what changes its mathematics, and what went in.

Finished and unfinished work is found by it. How many experts are asked for, how many of their epochs, how many
iterations and repeats is no part of the stage's own, so that asking for more extends what is there.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attcli import coding, registry
from attcli.data import sources
from attcli.errors import MissingError, UserError
from attcli.settings import Settings
from attcli.settings.choices import SCORES, idle
from attcli.stages import facts
from attcli.store import artefact, dataset, states, synthetic

ALGORITHM = {"prepare": 1, "buffer": 1, "distill": 2, "evaluate": 1}
"""Raise a stage's number when a change of the code alters its results, so that old work is not taken for new."""

LATER: dict[str, Any] = {
    "buffer.curriculum": "none",
    "buffer.waypoints": None,
    "distill.label_storage": "float32",
    "distill.compare": "all",
    "distill.distilled_share": 1.0,
    "distill.mirror": "none",
    "distill.emphasis": "none",
    "distill.patience": None,
    "distill.spans": 1,
    "distill.start_epochs": "whole",
    "distill.label_init": "experts",
    "distill.halve_every": None,
    "distill.student_optimiser": "sgd",
    "distill.student_lr": None,
    "distill.student_rates": "one",
    "distill.student_batches": "any",
    "distill.real_augment": "none",
    "distill.clip": None,
}
"""Settings that are younger than the results of their stage, with the value by which all of those were computed: where
they have it they are no part of an identity, so that older results are still found. A result that does not say one of
them was made by this value."""

HASHED: dict[str, Any] = {"distill.max_loss": None}
"""Settings that identities name by this value also where nothing reads them, as they did before that was known: so
older results are still found."""

Identity = tuple[str, dict[str, object]]
"""The fingerprint, and the settings that it hashes."""


def content(settings: Settings, section: str, *left_out: str) -> dict[str, Any]:
    """A section's settings as plain values, without those that nothing reads, or that are no part of an identity."""
    unread = {name.partition(".")[2] for name in idle(settings) if name.startswith(f"{section}.")}
    values: dict[str, Any] = getattr(settings, section).model_dump(mode="json", exclude={*left_out, *unread, "seed"})
    values |= {name: HASHED[f"{section}.{name}"] for name in unread if f"{section}.{name}" in HASHED}
    return {name: value for name, value in values.items() if LATER.get(f"{section}.{name}", ...) != value}


def network(settings: Settings) -> dict[str, object]:
    """The network and the options that it reads, with none left to be chosen later."""
    arch = settings.network.arch
    values = content(settings, "network")
    module = registry.module("network", arch)
    if hasattr(module, "resolved"):
        values = module.resolved(values, facts.of(settings).resolution)
    return dict(values)


def prepare(settings: Settings) -> Identity:
    """The identity of a prepared dataset."""
    section = settings.prepare
    seeded = bool(section.validation or section.limit_per_class or facts.of(settings).seeded)
    decisive: dict[str, object] = {
        **content(settings, "prepare", "allow_unreadable"),  # it decides whether there is a result, not which one
        "seed": settings.seed_of("prepare") if seeded else None,
    }
    return artefact.fingerprint("prepare", ALGORITHM["prepare"], decisive, files(settings)), decisive


def files(settings: Settings) -> dict[str, str]:
    """What went into a prepared dataset: the digest of its image files, where it is made of files.

    Where they are no longer there, what was prepared from them says which they were.
    """
    try:
        digest = sources.digest(settings.images)
    except MissingError:
        if not settings.prepared.exists():
            raise
        digest = artefact.header(settings.prepared, dataset.KIND, dataset.MAKER).about.get("files")
    return {} if digest is None else {"files": digest}


def making_of_experts(settings: Settings) -> dict[str, Any]:
    """The settings of `buffer` that decide what experts are: which were imported, or else how they are trained."""
    section = settings.buffer
    if section.imported:
        return {"imported": section.imported, **({} if section.waypoints is None else {"waypoints": section.waypoints})}
    own = content(settings, "buffer", "experts", "epochs", "imported", *DIFFICULTY)
    by = scores(settings) if section.curriculum != "none" else {}
    return {**own, **by, "seed": settings.seed_of("buffer")}


DIFFICULTY = ("difficulty", "difficulty_networks", "difficulty_epochs")
"""The settings of `buffer` that say how hard images are; they are no part of what does not ask for it."""


def scores(settings: Settings) -> dict[str, Any]:
    """The settings that say how hard images are; a file is known by its content. UserError where it is missing."""
    values = content(settings, "buffer")
    own = {name: values[name] for name in DIFFICULTY if name in values}
    return own if own["difficulty"] in SCORES else {"difficulty": _content_of(Path(own["difficulty"]))}


def _content_of(path: Path) -> str:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"buffer.difficulty {path} cannot be read ({error.strerror}); name a file of scores, or set "
            f"buffer.difficulty to one of: {', '.join(SCORES)}"
        ) from None
    return f"sha256:{digest[:16]}"


def difficulty(settings: Settings, dataset_sha256: str) -> Identity:
    """The identity of what networks say about the images; how many networks is no part of it."""
    decisive: dict[str, object] = {
        "buffer": {**judges(settings), "difficulty_epochs": settings.buffer.difficulty_epochs},
        "grand": settings.buffer.difficulty == "grand",
        "network": network(settings),
    }
    return artefact.fingerprint("difficulty", ALGORITHM["buffer"], decisive, {"dataset": dataset_sha256}), decisive


def judges(settings: Settings) -> dict[str, Any]:
    """The settings of `buffer` by which networks are trained that say how hard images are."""
    own = {name: getattr(settings.buffer, name) for name in ("lr", "batch", "augment", "precision")}
    return {**own, "seed": settings.seed_of("buffer")}


def of_inputs(settings: Settings, about: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a set's header says of the images and the experts that it was made of, and what the settings ask of these.

    Both by dotted names, as far as the header says it and the settings read it. Of images of another dataset than the
    settings' there is nothing.
    """
    images = {**settings.prepare.model_dump(mode="json"), "seed": settings.seed_of("prepare")}
    of_images = (about.get("prepare") or {}) if about["dataset"] == settings.prepare.dataset else {}
    of_images = {name: value for name, value in of_images.items() if name in images and (name, value) != ("seed", None)}
    kept = {f"prepare.{name}": value for name, value in of_images.items()}
    asked = {f"prepare.{name}": images[name] for name in of_images}
    if settings.reads_experts and (of_experts := _experts_of(about)):
        choices = {name: getattr(settings.buffer, name) for name in ("curriculum", "waypoints", "imported")}
        experts = {**choices, **making_of_experts(settings)}
        kept |= {f"buffer.{name}": of_experts.get(name, LATER.get(f"buffer.{name}")) for name in experts}
        asked |= {f"buffer.{name}": value for name, value in experts.items()}
    return kept, asked


def _experts_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """The section `buffer` of the settings that a set was made with, as its header says them; or nothing."""
    said = about.get("made_with") or {}
    section = said.get("buffer")
    if not isinstance(section, Mapping):
        return {}
    return {**section, "seed": said.get("seed") if section.get("seed") is None else section["seed"]}


def made_with(settings: Settings) -> dict[str, Any]:
    """All settings that a set is made with, for its file. Files that they name are named by their content.

    Those that nothing reads are among them, since together they have passed all checks. What says how long a
    distillation goes on and when it saves is not: sets do not depend on it.
    """
    said = settings.model_dump(mode="json", include={"seed", "prepare", "network", "buffer", "distill"})
    for name in ("iterations", "save_every", "max_bad_updates"):
        said["distill"].pop(name)
    said["distill"]["start_from"] = start(settings).get("start_from")
    if settings.buffer.difficulty not in SCORES:
        ranks = settings.buffer.curriculum != "none" or settings.distill.init == "ranked"
        said["buffer"]["difficulty"] = scores(settings)["difficulty"] if ranks else SCORES[0]
    return said


def buffer(settings: Settings, dataset_sha256: str) -> Identity:
    """The identity of the experts; how many, and how long, is no part of it."""
    decisive: dict[str, object] = {
        "buffer": making_of_experts(settings),
        "network": network(settings),
        "prepare": prepare(settings)[1],
    }
    return artefact.fingerprint("buffer", ALGORITHM["buffer"], decisive, {"dataset": dataset_sha256}), decisive


def whole_experts(settings: Settings) -> Settings:
    """The settings of the experts that compact ones are made of."""
    return settings.model_copy(update={"buffer": settings.buffer.model_copy(update={"waypoints": None})})


def compacted(decisive: dict[str, Any], waypoints: int, dataset_sha256: str) -> Identity:
    """The identity of experts that are kept compactly, from that of those which they are made of."""
    decisive = {**decisive, "buffer": {**decisive["buffer"], "waypoints": waypoints}}
    return artefact.fingerprint("buffer", ALGORITHM["buffer"], decisive, {"dataset": dataset_sha256}), decisive


def protocol(settings: Settings) -> dict[str, Any]:
    """How a set is to be scored, as its file says it; what is None is left to the literature's protocol."""
    own = settings.evaluate
    names = ("protocol", "epochs", "batch", "momentum", "weight_decay")
    return {**{name: getattr(own, name) for name in names}, "augment": own.augment or settings.distill.augment}


def distillation(settings: Settings) -> dict[str, object]:
    """The settings that decide what a distillation computes; how long it runs is none of them."""
    return {
        "distill": {
            **content(settings, "distill", "method", "iterations", "save_every", "max_bad_updates", "start_from"),
            **start(settings),
            **(_ranks(settings) if settings.distill.init == "ranked" else {}),
            "label_epoch": settings.label_epoch,
            "seed": settings.seed_of("distill"),
            **({"experts": settings.buffer.experts} if settings.reads_experts else {}),
        },
        "network": network(settings),
    }


def _ranks(settings: Settings) -> dict[str, Any]:
    """What ranks real images by how hard they are."""
    by = scores(settings)
    judged_by = {f"judges_{name}": value for name, value in judges(settings).items()} if len(by) > 1 else {}
    return {**by, **judged_by}


def start(settings: Settings) -> dict[str, str]:
    """The set that a distillation starts from, by its content, if there is one."""
    path = settings.distill.start_from
    return {} if path is None else {"start_from": synthetic.header(path).sha256}


def distill(settings: Settings, dataset_sha256: str, experts_digest: str) -> Identity:
    """The identity of a distillation."""
    inputs = {"dataset": dataset_sha256, "experts": experts_digest}
    if version := registry.answer("objective", settings.distill.objective, "version", 0, settings.distill):
        inputs["objective"] = f"version {version}"
    if _has_scales(settings.distill.label_storage) and "labels" in coding.choices(settings.distill):
        inputs["labels"] = "version 1"  # since then, their grid leaves room on both sides
    if settings.distill.start_from is not None and _begins_otherwise(settings, settings.distill.start_from):
        inputs["start"] = "version 1"
    decisive = distillation(settings)
    return artefact.fingerprint("distill", ALGORITHM["distill"], decisive, inputs), decisive


def _begins_otherwise(settings: Settings, path: Path) -> bool:
    """Whether a start from a file became another one in version 1.

    Since then, a finished set is begun with the scales in its file, and a snapshot with its labels as they are, which
    were rounded before.
    """
    of_labels = settings.distill.label_storage
    if artefact.kind_of(path) != states.KIND:
        return _has_scales(settings.distill.storage)
    return settings.distill.labels == "learned" and of_labels != "float32" and not _has_scales(of_labels)


def _has_scales(storage: str) -> bool:
    """Whether a storage rounds to grids that follow the numbers."""
    return "scales_every" in registry.options("storage", storage)
