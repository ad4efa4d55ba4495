"""A distillation that starts from a finished set, or from a snapshot: its numbers, labels and learning rate."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from attcli import coding, execution
from attcli.coding import Coding
from attcli.data.normalise import Normaliser
from attcli.errors import UserError
from attcli.settings import Settings
from attcli.stages import identity, update
from attcli.storage.affine import Options as Refits
from attcli.store import artefact, dataset, states, synthetic

SETTINGS = {
    "parameterisation": "distill.parameterisation",
    "storage": "distill.storage",
    "labels": "distill.label_storage",
}
"""The parts of a set's coding, as its file names them, and the setting that chooses each."""

PLAINLY = {"name": coding.AS_THEY_ARE}
"""How labels are kept that a set's file says nothing of."""


def begin(path: Path, settings: Settings, data: dataset.Dataset, decoder: Coding) -> states.State:
    """The state before the first iteration, on the CPU.

    From a snapshot its numbers are taken as they were learned, from a set as they are kept, with the scales that they
    are kept by; always the last ones, not their averages. A set from another machine is decoded with the ZCA matrix of
    this one, if its own is not beside it and both were fitted to the same images. UserError where the set is made of
    other things than the settings ask for.
    """
    kind = str(artefact.kind_of(path))
    header, arrays = artefact.read(path, kind, synthetic.MAKER)

    def instead(about: dict[str, Any]) -> Normaliser | None:
        return data.normaliser if _of_same_images(about, settings, data) else None

    distilled = synthetic.of(path, kind, header, arrays, instead=instead)  # verifies all of it
    _check(path, header, settings, data)
    if _is_from_elsewhere(distilled.about, data):
        logger.warning("{} is from another machine; the normaliser fitted here differs from its own by rounding", path)
    asked, soft = settings.distill.labels, distilled.labels.is_floating_point()
    if soft != (asked != "hard"):
        raise UserError(_other_labels(path, asked, soft=soft))
    dtype = execution.dtype(settings.distill.precision)
    if kind == states.KIND:
        old = states.of(header, arrays)
        numbers, constants, scales = old.coded().learned, old.coded().constants, dict(old.scales)
        logits = old.learned.get(states.LOGITS, distilled.labels)
    else:
        packed = states.below("synthetic", arrays) or {"images/values": arrays["images"]}
        numbers = decoder.unpack(packed, len(distilled.labels))
        constants, scales = states.tensors("constants", arrays), decoder.scales_of(packed, len(distilled.labels))
        logits, kept = distilled.labels, states.below("labels", arrays)
        if decoder.label_storage is not None and kept:
            scales[states.LOGITS] = decoder.label_storage.scales_of(kept, tuple(logits.shape))
    learned = {name: x.to(dtype) for name, x in numbers.items()}
    of_steps = None if distilled.rates is None else distilled.rates.to(dtype)
    everything = {**learned, **update.first_rates(settings, torch.tensor(distilled.lr, dtype=dtype), of_steps)}
    constants = {name: x for name, x in constants.items() if name != states.FROZEN}
    constants |= update.frozen(settings.distill, decoder, len(data.about["classes"]))
    if asked == "learned":
        everything[states.LOGITS] = logits.to(dtype)
        if not scales.get(states.LOGITS) and (of_labels := decoder.fit_labels(logits)):
            scales[states.LOGITS] = of_labels
    else:
        constants[states.LABELS] = distilled.labels
    return update.first(settings.distill, everything, constants, learned, scales)


def check(path: Path, settings: Settings, data: dataset.Dataset) -> None:
    """UserError where a distillation with these settings could not start from the set in a file, as its header says."""
    kind = states.KIND if artefact.kind_of(path) == states.KIND else synthetic.KIND
    _check(path, artefact.header(path, kind, synthetic.MAKER), settings, data)


def _check(path: Path, header: artefact.Header, settings: Settings, data: dataset.Dataset) -> None:
    """UserError where a set is made of other images, or learned and kept otherwise, than the settings ask for."""
    about, distill = header.about, settings.distill
    labels = (header.settings.get("distill") or {}).get("labels")  # not known of an imported set
    if labels is not None and (labels == "hard") != (distill.labels == "hard"):
        raise UserError(_other_labels(path, distill.labels, soft=labels != "hard"))
    wanted, kept = coding.choices(distill), {**coding.PLAIN, **(about.get("coding") or {})}
    if distill.labels != "learned":  # then it is no matter how labels are kept
        kept["labels"] = None
    for part, setting in SETTINGS.items():
        if unlike := _differing(setting, kept.get(part) or PLAINLY, wanted.get(part) or PLAINLY):
            there = ", ".join(f"{name} {has}" for name, (has, _) in unlike.items())
            others = ", ".join(str(wants) for _, wants in unlike.values())
            remedy = ", ".join(f"{name}={has}" for name, (has, _) in unlike.items())
            raise UserError(
                f"{path} is made with {there}, and {others} is asked for; set {remedy} (`attcli config --diff {path}` "
                f"shows what else differs)"
            )
    per_class = coding.images_per_class(distill, data.about["channels"], data.about["resolution"])
    for what, own, asked in (
        ("images per class", about.get("images_per_class", about["ipc"]), per_class),
        ("classes", len(about["classes"]), len(data.about["classes"])),
        ("resolution", about["resolution"], data.about["resolution"]),
        ("channels", about["channels"], data.about["channels"]),
    ):
        if own != asked:
            raise UserError(
                f"{path} has {what} {own}, and {asked} is asked for; name another set as distill.start_from"
            )
    if _is_from_elsewhere(about, data) and not _of_same_images(about, settings, data):
        raise UserError(
            f"{path} was distilled from images that are normalised otherwise than those of this run; use the same "
            f"prepare settings, such as prepare.normalise"
        )


def _is_from_elsewhere(about: dict[str, Any], data: dataset.Dataset) -> bool:
    """Whether a set has another normaliser than the images of this run."""
    return bool(about["normaliser"]["sha256"] != data.about["normaliser"]["sha256"])


def _of_same_images(about: dict[str, Any], settings: Settings, data: dataset.Dataset) -> bool:
    """Whether a set's images were prepared as those of this run, and published: one's own are not known again."""
    published = data.about.get("files") is None
    return published and bool(json.loads(json.dumps(identity.prepare(settings)[1])) == about.get("prepare"))


def _differing(setting: str, kept: Mapping[str, object], wanted: Mapping[str, object]) -> dict[str, tuple[Any, Any]]:
    """The settings by which a part of a set is made otherwise than is asked for: as it is there, as it is asked for.

    When scales are fitted anew is no matter of the set, but of each distillation.
    """
    if kept["name"] != wanted["name"]:
        return {setting: (kept["name"], wanted["name"])}
    options = sorted({*kept, *wanted} - {"name", *Refits.model_fields})
    pairs = {f"distill.{name}": (kept.get(name), wanted.get(name)) for name in options}
    return {name: (has, wants) for name, (has, wants) in pairs.items() if has != wants}


def _other_labels(path: Path, asked: str, *, soft: bool) -> str:
    """What is said of a set with other labels than those asked for."""
    has, needs = ("learned labels", "learned") if soft else ("class numbers as labels", "hard")
    return f"{path} has {has}, and distill.labels {asked} is asked for; set distill.labels={needs}"
