"""Between what others keep of a set and what its own file holds: numbers, labels, learning rate and header."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attcli import coding
from attcli.errors import UserError
from attcli.interchange import Plain, Whole
from attcli.options import DSA, VARIANTS

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.data.normalise import Normaliser
    from attcli.store.artefact import Header
    from attcli.store.synthetic import SyntheticSet

ALGORITHM = 1
METHOD = "imported"
"""What stands for the method of a set that somebody else distilled."""

FLOATS = ("float64", "float32", "float16", "bfloat16")

OTHER = "name the dataset that it was made of (--dataset NAME), or another set"
"""The remedy where a set does not fit a dataset."""


def decoded(whole: Whole, path: Path = Path("the set")) -> SyntheticSet:
    """The images of a set. UserError, naming the path, where its arrays are not what its header says."""
    from attcli.store import synthetic

    return synthetic.of(path, synthetic.KIND, whole.header, whole.arrays, whole.normaliser)


def whole_in(path: Path) -> Whole:
    """The set in its own file, or in a snapshot, with its normaliser where that is at hand. UserError if it is none."""
    from attcli.store import artefact, states, synthetic

    if artefact.kind_of(path) != states.KIND:
        header, arrays = artefact.read(path, synthetic.KIND, synthetic.MAKER)
        if "images" in arrays:  # files of schema 1
            names = {"images": "synthetic/images/values", "ema": "ema/images/values"}
            arrays = {names.get(name, name): array for name, array in arrays.items()}
            header = replace(header, sha256=artefact.checksum(arrays))
        return Whole(header, arrays, synthetic.normaliser_of(path, header.about, arrays))
    header, arrays = artefact.read(path, states.KIND, synthetic.MAKER)
    normaliser = synthetic.normaliser_of(path, header.about, arrays)
    with states.refused(path):
        state = states.of(header, arrays)
        arrays = synthetic.arrays_of(state, states.coding_of(path, header.about, normaliser), normaliser)
    header = replace(states.header_of(header, synthetic.KIND, state), sha256=artefact.checksum(arrays))
    return Whole(header, arrays, normaliser)


def whole_of(plain: Plain, facts: Mapping[str, Any], normaliser: Normaliser | None, lr: float | None) -> Whole:
    """The set's own file for a set that others keep.

    facts: what a header says of the dataset (classes, channels, resolution, value_scale, normaliser), the network, the
    protocol. lr: the learning rate, where `plain` has none. UserError where the set does not fit the facts.
    """
    import numpy as np

    from attcli import runtime
    from attcli.store import artefact, headers, synthetic
    from attcli.store import normaliser as normaliser_file

    if lr is not None and plain.lr is not None:
        raise UserError(
            f"{plain.file} comes with the learning rate {plain.lr:g}; leave --lr (in Python lr) out, or train with "
            f"another one later, as with --set evaluate.lr={lr:g}"
        )
    rate = plain.lr if lr is None else lr
    if rate is None:
        raise UserError(f"no learning rate comes with {plain.file}; say the one that its authors use, as --lr 0.01")
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(
            f"the learning rate of {plain.file} is {rate:g}; networks can't be trained with it; "
            "say another one, as --lr 0.01"
        )
    images, labels = _by_class(plain, facts)
    kept, arrays = _packed(images, facts)
    exact = np.float32(rate)
    arrays |= {"labels": labels.numpy(), "lr": np.asarray(exact if float(exact) == rate else np.float64(rate))}
    if normaliser is not None and normaliser.kind == "standardise":
        arrays |= normaliser_file.arrays_of(normaliser)
    classes = len(facts["classes"])
    per_class = len(images) // classes
    bytes_per_image = images.element_size() * images[0].numel()
    origin = {"file": plain.file, "sha256": plain.sha256}
    about = {
        "method": METHOD,
        "iteration": 0,
        "counts": {},
        "seed": 0,
        **facts,
        "ipc": max(1, round(per_class * bytes_per_image / (coding.FLOAT32_BYTES * images[0].numel()))),
        "images_per_class": per_class,
        "coding": kept,
        "imported": origin,
    }
    settings = {"imported": origin, "network": facts["network"]}
    inputs = {"file": plain.sha256, "normaliser": facts["normaliser"]["sha256"], "lr": repr(rate)}
    fingerprint = artefact.fingerprint("import", ALGORITHM, {**settings, "protocol": facts["protocol"]}, inputs)
    if problem := headers.problem(synthetic.KIND, about):
        raise UserError(f"{plain.file} is no set that attcli can hold ({problem}); name another one")
    header = artefact.Header(
        synthetic.KIND, fingerprint, settings, about, runtime.versions(), artefact.checksum(arrays)
    )
    return Whole(header, arrays, normaliser)


def _by_class(plain: Plain, facts: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Images and labels, class by class. UserError where they are not as many of each class, or of another shape."""
    import torch

    images, labels, classes = plain.images, plain.labels, len(facts["classes"])
    shape = (facts["channels"], facts["resolution"], facts["resolution"])
    if tuple(images.shape[1:]) != shape:
        raise UserError(
            f"{plain.file} holds images of shape {tuple(images.shape[1:])}, the dataset's are {shape}; {OTHER}"
        )
    if len(labels) != len(images) or not len(images):
        raise UserError(
            f"{plain.file} holds {len(images)} images and {len(labels)} labels, not one for each; name another set"
        )
    if not bool(images.isfinite().all()) or not bool(labels.isfinite().all()):
        raise UserError(f"{plain.file} holds images or labels that are not finite; name another set")
    if labels.is_floating_point() and labels.ndim == 2:
        if labels.shape[1] != classes:
            raise UserError(
                f"{plain.file} has labels for {labels.shape[1]} classes, the dataset has {classes}; {OTHER}"
            )
        if len(labels) % classes:
            raise UserError(
                f"{plain.file} holds {len(labels)} images, not as many for each of {classes} classes; {OTHER}"
            )
        return images.contiguous(), _soft(labels)
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise UserError(
            f"{plain.file} has labels that are neither class numbers nor a row of numbers for each image; "
            "name another set"
        )
    labels = labels.long()
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UserError(
            f"{plain.file} has labels from {int(labels.min())} to {int(labels.max())}, "
            f"the dataset has {classes} classes; {OTHER}"
        )
    counts = labels.bincount(minlength=classes)
    if int(counts.min()) != int(counts.max()):
        fewest, most = int(counts.argmin()), int(counts.argmax())
        raise UserError(
            f"{plain.file} holds {int(counts[fewest])} images of class {fewest} and {int(counts[most])} of class "
            f"{most}, not as many of each; make them as many, or name another set"
        )
    order = torch.argsort(labels, stable=True)
    if not bool((order == torch.arange(len(order))).all()):
        from loguru import logger

        logger.info("the images of {} are put in the order of their classes", plain.file)
        return images[order], labels[order]
    return images.contiguous(), labels


def _soft(labels: Tensor) -> Tensor:
    """Logits in float32. UserError where that would not be the same numbers."""
    single = labels.float().contiguous()
    if not bool((single.to(labels.dtype) == labels).all()):
        raise UserError(f"its soft labels are of type {labels.dtype} and do not fit into float32; save them as float32")
    return single


def _packed(images: Tensor, facts: Mapping[str, Any]) -> tuple[coding.Choices, dict[str, Any]]:
    """How images are kept so that no bit is lost, and the arrays.

    Network inputs are pixels in their own type. Pictures of bytes are what multi-formation of one cell in uint8 keeps:
    values in [0, 1] that are normalised when they are decoded.
    """
    from attcli.parameterisations import Space

    space = Space(facts["channels"], facts["resolution"])
    if images.is_floating_point():
        name = str(images.dtype).removeprefix("torch.")
        if name not in FLOATS:
            raise UserError(f"images of type {name} can't be kept; save them as float32")
        kept: coding.Choices = {"parameterisation": {"name": "pixels"}, "storage": {"name": name}}
        learned = {"images": images}
    else:
        kept = PICTURES
        learned = {"cells": images.float() / 255}
    decoder = coding.load(kept, space)
    packed = decoder.pack(learned, decoder.fit(learned))
    return kept, {f"synthetic/{name}": array for name, array in packed.items()}


def kept_facts(header: Header) -> dict[str, Any]:
    """What the set's own file said before it was exported, with the settings that made it."""
    return {**header.about, "made_by": header.settings}


def about_dataset(plain: Plain) -> dict[str, Any]:
    """What can be said of a set without its dataset: it has so many classes, and images of such a size.

    The protocol is the literature's, the network a ConvNet. Its normaliser is not known.
    """
    if not plain.images.is_floating_point():
        raise UserError(
            f"{plain.file} does not say how its dataset is normalised; take it in with attcli import {plain.file} "
            f"--dataset NAME, and load artifacts/synthetic.h5"
        )
    _, channels, height, width = plain.images.shape
    if height != width:
        raise UserError(f"{plain.file} holds images of {height}x{width}; attcli takes square ones; name another set")
    soft = plain.labels.ndim == 2
    if not plain.labels.numel() or not plain.images.numel() or not plain.labels.isfinite().all():
        raise UserError(f"{plain.file} holds no images, or labels that are not finite; name another set")
    classes = int(plain.labels.shape[1]) if soft else int(plain.labels.max()) + 1
    if not 0 < classes <= len(plain.images):  # a set has as many images of each class
        raise UserError(f"{plain.file} holds {len(plain.images)} images for {classes} classes; each needs an image")
    return {
        "dataset": "unknown",
        "classes": [str(number) for number in range(classes)],
        "channels": channels,
        "resolution": height,
        "value_scale": 1 / 255,
        "normaliser": {"kind": "standardise", "eps": 0.0, "sha256": "0" * 64},
        "dataset_sha256": "0" * 64,
        "network": {"arch": "convnet"},
        "protocol": {"augment": DSA},
    }


PICTURES: coding.Choices = {"parameterisation": {"name": "multiformation", "factor": 1}, "storage": {"name": "uint8"}}
"""What pictures of bytes are kept as: values in [0, 1] in 256 steps, which are normalised when they are decoded."""


def pictures(whole: Whole, variant: str) -> tuple[Tensor, float]:
    """The images of a set as people see them, u8 (n, C, H, W); and the largest change of a value in [0, 1] by that.

    UserError where the normaliser is not at hand.
    """
    plain = whole.known_normaliser().inverse(decoded(whole).variants[variant].double())
    codes = (plain * 255).round().clamp(0, 255)
    return codes.byte(), float((codes / 255 - plain).abs().max())


def of_pictures(whole: Whole, variant: str) -> list[str]:
    """What is lost where images become pictures of bytes."""
    kept = whole.header.about.get("coding") or coding.PLAIN
    said = {name: {key: kept[name].get(key) for key in choice} for name, choice in PICTURES.items()}
    if said == PICTURES:
        return []
    change = pictures(whole, variant)[1]
    if whole.header.about["normaliser"]["kind"] == "contrast":
        return ["exact pixels: images have an average brightness and contrast instead of their own, and 256 values"]
    return [f"exact pixels: they are rounded to 256 values from 0 to 1 (which changes values by up to {change:.2g})"]


def of_the_code(whole: Whole, variant: str) -> list[str]:
    """What is lost where images are decoded: what they were learned as."""
    about = whole.header.about
    code = {**coding.PLAIN, **(about.get("coding") or {}), "labels": None}
    if code == {**coding.PLAIN, "labels": None}:
        return []
    size = coding.in_words(decoded(whole).size)
    names = f"{code['parameterisation']['name']} in {code['storage']['name']}"
    return [f"how the images are kept ({names}: {size}): they are decoded to float32"]


def of_the_rest(whole: Whole, variant: str) -> list[str]:
    """What is lost where there is room for images, labels and learning rate alone."""
    about = whole.header.about["normaliser"]
    return [
        *of_the_other(whole, variant),
        f"the normaliser ({about['kind']}) and the settings that the set was made with",
    ]


def of_the_other(whole: Whole, variant: str) -> list[str]:
    """What is lost where there is room for one variant alone, and for one learning rate."""
    others = [name for name in VARIANTS if name != variant and has(whole, name)]
    lost = [f"the other images of the set ({name}): only those called {variant} are written" for name in others]
    return [*lost, *(["the learning rate of each step: their mean stands for them"] if "rates" in whole.arrays else [])]


def count(whole: Whole) -> int:
    """How many images a set has."""
    from attcli.store import states

    return states.count_of(whole.header.about)


def has(whole: Whole, variant: str) -> bool:
    """Whether a set has such images: `synthetic`, or their moving average, `ema`."""
    return any(name.startswith(f"{variant}/") for name in whole.arrays)
