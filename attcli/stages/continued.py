"""A distillation that starts from a finished set, or from a snapshot: its numbers, labels and learning rate."""

import json
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
from attcli.store import artefact, dataset, states, synthetic


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
    _check(path, distilled.about, settings, data)
    if _is_from_elsewhere(distilled.about, data):
        logger.warning("{} is from another machine; the normaliser fitted here differs from its own by rounding", path)
    asked, soft = settings.distill.labels, distilled.labels.is_floating_point()
    if soft != (asked != "hard"):
        has, needs = ("learned labels", "learned") if soft else ("class numbers as labels", "hard")
        raise UserError(f"{path} has {has}, and distill.labels {asked} is asked for; set distill.labels={needs}")
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
    _check(path, artefact.header(path, kind, synthetic.MAKER).about, settings, data)


def _check(path: Path, about: dict[str, Any], settings: Settings, data: dataset.Dataset) -> None:
    """UserError where a set is made of other images, or learned and kept otherwise, than the settings ask for."""
    distill = settings.distill
    wanted, kept = coding.choices(distill), {**coding.PLAIN, **(about.get("coding") or {})}
    for part, choice in {**wanted, **{name: kept[name] for name in kept if name not in wanted}}.items():
        if kept.get(part) != choice:
            raise UserError(
                f"{path} is made with {part} {_said(kept.get(part))}, and {_said(wanted.get(part))} is asked for; set "
                f"distill.{part} and its options as in the set (attcli config --diff shows them)"
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


def _said(choice: dict[str, object] | None) -> str:
    """A choice in words."""
    if choice is None:
        return "none"
    options = ", ".join(f"{name} {value}" for name, value in choice.items() if name != "name")
    return f"{choice['name']}{f' ({options})' if options else ''}"
