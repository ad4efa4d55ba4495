"""synthetic.h5: a distilled set with all that scoring it needs, and the snapshots from which distilling resumes."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attcli import coding
from attcli.coding import Coding
from attcli.data.normalise import Normaliser
from attcli.errors import UserError
from attcli.networks import Architecture
from attcli.parameterisations import Coded, Space
from attcli.store import artefact, dataset
from attcli.store import normaliser as normaliser_file
from attcli.store.headers import MOST_PARAMETERS

KIND = "synthetic"
SNAPSHOT = "snapshot"
MAKER = "attcli distill"

LR, LOGITS, LABELS = "lr", "logits", "labels"
"""Names of a state's tensors that are not the parameterisation's: learned numbers, and fixed labels."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class State:
    """A synthetic set and what its optimisation needs to go on after `iteration` updates, as named tensors.

    learned: what the outer optimiser moves: the parameterisation's tensors, `lr` (the student's learning rate, a
    scalar) and, where labels are learned, their `logits` (n, K).
    constants: `labels`, classes (n,) or a teacher's logits (n, K), where they are not learned; and the
    parameterisation's own.
    averages: the moving average of the parameterisation's tensors.
    moments: what the optimiser remembers of each learned tensor.
    scales: what learned tensors are rounded by, where their storage has scales; those of averages follow from them.
    counts: how often an update was projected, rejected or skipped.
    """

    iteration: int
    learned: Tensors
    constants: Tensors
    averages: Tensors
    moments: dict[str, Tensors]
    counts: dict[str, int]
    scales: dict[str, Tensors] = field(default_factory=dict)

    @property
    def labels(self) -> Tensor:
        """Classes (n,) or logits (n, K)."""
        return self.learned[LOGITS] if LOGITS in self.learned else self.constants[LABELS]

    @property
    def lr(self) -> Tensor:
        """The student's learning rate, a scalar."""
        return self.learned[LR]

    def coded(self, averaged: bool = False) -> Coded:
        """The parameterisation's tensors, last or averaged, with its constants."""
        learned = self.averages if averaged else {n: x for n, x in self.learned.items() if n not in (LR, LOGITS)}
        return Coded(learned, {name: x for name, x in self.constants.items() if name != LABELS})

    def to(self, device: torch.device) -> "State":
        """The same state on a device."""

        def moved(tensors: Tensors) -> Tensors:
            return {name: x.to(device) for name, x in tensors.items()}

        return replace(
            self,
            learned=moved(self.learned),
            constants=moved(self.constants),
            averages=moved(self.averages),
            moments={name: moved(kept) for name, kept in self.moments.items()},
            scales={name: moved(kept) for name, kept in self.scales.items()},
        )


def _header(header: artefact.Header, kind: str, state: State) -> artefact.Header:
    about = {**header.about, "iteration": state.iteration, "counts": state.counts}
    return artefact.Header(kind, header.fingerprint, header.settings, about, header.versions)


def _named(group: str, tensors: Mapping[str, Tensor]) -> artefact.Arrays:
    return {f"{group}/{name}": x.detach().cpu().numpy() for name, x in tensors.items()}


def _group(group: str, arrays: artefact.Arrays) -> artefact.Arrays:
    """The arrays below a group, by their names inside it."""
    prefix = f"{group}/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _tensors(group: str, arrays: artefact.Arrays) -> Tensors:
    return {name: torch.from_numpy(np.asarray(array)) for name, array in _group(group, arrays).items()}


def write(path: Path, header: artefact.Header, state: State, normaliser: Normaliser) -> None:
    """Write the set as its storage keeps it. Of normalisers it holds standardisation, which is a few numbers."""
    decoder = coding_of(header.about, normaliser)
    arrays = {
        **{f"synthetic/{name}": array for name, array in decoder.pack(state.coded().learned, state.scales).items()},
        **{f"ema/{name}": array for name, array in decoder.pack(state.averages, decoder.fit(state.averages)).items()},
        **_named("constants", state.coded().constants),
        **_packed_labels(decoder, state),
        "lr": state.lr.detach().cpu().numpy(),
    }
    small = normaliser_file.arrays_of(normaliser) if normaliser.kind == "standardise" else {}
    artefact.write(path, _header(header, KIND, state), {**arrays, **small})


def labels_as_kept(decoder: Coding, state: State) -> Tensor:
    """Classes (n,) or logits (n, K): learned ones as the file would hold them."""
    if LOGITS not in state.learned:
        return state.labels
    return decoder.labels(state.labels, state.scales.get(LOGITS, {}))


def _packed_labels(decoder: Coding, state: State) -> artefact.Arrays:
    labels = state.labels.detach().cpu()
    if LOGITS not in state.learned or decoder.label_storage is None:
        return {"labels": labels.numpy()}
    packed = decoder.label_storage.pack(labels, coding.on_cpu(state.scales.get(LOGITS, {})))
    return {f"labels/{part}": array for part, array in packed.items()}


def write_snapshot(path: Path, header: artefact.Header, state: State) -> None:
    """Write all of a state, unrounded, without the normaliser: distilling resumes from it."""
    arrays = {
        **_named("learned", state.learned),
        **_named("constants", state.constants),
        **_named("averages", state.averages),
    }
    for name, kept in state.moments.items():
        arrays |= _named(f"moments/{name}", kept)
    for name, kept in state.scales.items():
        arrays |= _named(f"scales/{name}", kept)
    artefact.write(path, _header(header, SNAPSHOT, state), arrays)


def read_snapshot(path: Path, normaliser: Normaliser | None = None) -> State:
    """Read and verify a snapshot: all that distilling resumes from is there, and finite.

    The normaliser is looked for beside it where none is given.
    """
    header, arrays = artefact.read(path, SNAPSHOT, MAKER)
    normaliser = normaliser or _normaliser(path, header.about, arrays)
    state = _state(header, arrays)
    whole = state.coded().learned.keys() == state.averages.keys() and all(state.moments.values())
    decoder = coding_of(header.about, normaliser)
    artefact.require(path, MAKER, whole, "a part of its state is missing")
    _check(path, header.about, _decoded(path, decoder, state), state.labels, float(state.lr))
    return state


def _state(header: artefact.Header, arrays: artefact.Arrays) -> State:
    learned = _tensors("learned", arrays)
    scales = {name: _tensors(f"scales/{name}", arrays) for name in learned}
    return State(
        iteration=header.about["iteration"],
        learned=learned,
        constants=_tensors("constants", arrays),
        averages=_tensors("averages", arrays),
        moments={name: _tensors(f"moments/{name}", arrays) for name in learned},
        counts=header.about["counts"],
        scales={name: parts for name, parts in scales.items() if parts},
    )


def _decoded(path: Path, decoder: Coding, state: State) -> Tensors:
    """The images of a snapshot's variants. UserError where its numbers are not those of its parameterisation."""
    averaged = state.coded(averaged=True)
    try:
        return {
            "synthetic": decoder.images(state.coded(), state.scales),
            "ema": decoder.images(averaged, decoder.fit(averaged.learned)),
        }
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        raise artefact.damaged(path, MAKER, error) from None


def coding_of(about: Mapping[str, Any], normaliser: Normaliser | None) -> Coding:
    """How the set that a header is about is learned and kept; files that do not say hold pixels in float32."""
    return coding.load(about.get("coding") or {}, Space(about["channels"], about["resolution"], normaliser))


@dataclass(frozen=True)
class SyntheticSet:
    """A distilled set as read from a file: variants by name (`synthetic`, `ema`), labels and learning rate.

    The variants are decoded: network inputs (n, C, H, W). labels are classes (n,) or logits (n, K). kept_bytes says for
    each variant how many bytes its arrays take in the file, with those that it needs beside its own: constants, labels
    (but not classes, which follow from the images' order), and the learning rate. Its normaliser is not counted.
    """

    about: dict[str, Any]
    settings: dict[str, Any]
    variants: Tensors
    labels: Tensor
    lr: float
    sha256: str
    normaliser: Normaliser | None
    kept_bytes: dict[str, int]

    @property
    def size(self) -> dict[str, Any]:
        """What the set costs: images and bytes per class, and those bytes as a number of float32 images."""
        about, classes = self.about, len(self.about["classes"])
        per_class = self.kept_bytes["synthetic"] / classes
        return coding.size(per_class, about["channels"], about["resolution"], len(self.labels) // classes)


def read(path: Path, kind: str | None = KIND) -> SyntheticSet:
    """Read and verify a set, or with kind SNAPSHOT the set in a snapshot, as its storage would keep it.

    With kind None it may be either.
    """
    if kind is None:
        kind = SNAPSHOT if artefact.kind_of(path) == SNAPSHOT else KIND
    header, arrays = artefact.read(path, kind, MAKER)
    about = header.about
    normaliser = _normaliser(path, about, arrays)
    decoder = coding_of(about, normaliser)
    if decoder.parameterisation.needs_normaliser and normaliser is None:
        raise UserError(
            f"{path} needs its normaliser: put the {normaliser_file.NAME} that was made with it beside it, or the "
            f"dataset.h5 that it was distilled from"
        )
    if kind == SNAPSHOT:
        state = _state(header, arrays)
        variants, labels, lr = _decoded(path, decoder, state), labels_as_kept(decoder, state), state.lr
        packed = {
            "synthetic": decoder.pack(state.coded().learned, state.scales),
            "ema": decoder.pack(state.averages, decoder.fit(state.averages)),
        }
        beside = {**_named("constants", state.coded().constants), **_packed_labels(decoder, state)}
    else:
        packed = {name: _group(name, arrays) for name in ("synthetic", "ema")}
        if "images" in arrays:  # files of schema 1
            packed = {"synthetic": {"images/values": arrays["images"]}, "ema": {"images/values": arrays["ema"]}}
        variants, labels = _unpacked(path, about, decoder, packed, arrays)
        lr = torch.from_numpy(np.asarray(arrays["lr"]))
        beside = {name: x for name, x in arrays.items() if name.startswith(("constants/", "labels"))}
    _check(path, about, variants, labels, float(lr))
    _check_network(path, about)
    if not labels.is_floating_point():
        beside.pop("labels", None)
    common = sum(array.nbytes for array in beside.values()) + coding.FLOAT32_BYTES
    return SyntheticSet(
        about=about,
        settings=header.settings,
        variants=variants,
        labels=labels,
        lr=float(lr),
        sha256=header.sha256,
        normaliser=normaliser,
        kept_bytes={name: common + sum(array.nbytes for array in parts.values()) for name, parts in packed.items()},
    )


def _unpacked(
    path: Path, about: dict[str, Any], decoder: Coding, packed: dict[str, artefact.Arrays], arrays: artefact.Arrays
) -> tuple[Tensors, Tensor]:
    """The variants' images and the labels of a set's file. UserError where its arrays are not those of its choices."""
    count = _count(about)
    constants = _tensors("constants", arrays)
    try:
        variants = {
            name: decoder.parameterisation.decode(Coded(decoder.unpack(parts, count), constants), decoder.space)
            for name, parts in packed.items()
        }
        if decoder.label_storage is None or "labels" in arrays:
            return variants, torch.from_numpy(arrays["labels"])
        return variants, decoder.label_storage.unpack(_group("labels", arrays), (count, len(about["classes"])))
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        raise artefact.damaged(path, MAKER, error) from None


def _normaliser(path: Path, about: dict[str, Any], arrays: artefact.Arrays) -> Normaliser | None:
    """The set's normaliser: from its own file, or one of its name beside it or above, or a dataset there."""
    if "normaliser/mean" in arrays:
        normaliser_file.check(path, MAKER, about, arrays)
        return normaliser_file.of(about, arrays)
    digest = about["normaliser"]["sha256"]
    folders = (path.parent, path.parent.parent)
    for file in (folder / normaliser_file.NAME for folder in folders):
        if file.exists() and (normaliser := normaliser_file.read(file, digest)):
            return normaliser
    for file in (folder / "dataset.h5" for folder in folders):
        if file.exists() and artefact.header(file, dataset.KIND, dataset.MAKER).about["normaliser"]["sha256"] == digest:
            return dataset.read(file).normaliser
    return None


def _count(about: dict[str, Any]) -> int:
    """The images of the set that a header is about."""
    return len(about["classes"]) * int(about.get("images_per_class") or about["ipc"])


def _check(path: Path, about: dict[str, Any], variants: Tensors, labels: Tensor, lr: float) -> None:
    """UserError unless the set is finite, and of the size and shape that the header says."""
    count = _count(about)
    shape = (count, about["channels"], about["resolution"], about["resolution"])
    for name, images in variants.items():
        artefact.require(path, MAKER, images.shape == shape, f"its images ({name}) have another shape than it says")
        artefact.require(path, MAKER, bool(images.isfinite().all()), f"its images ({name}) are not all finite")
    soft = labels.is_floating_point()
    fits = labels.shape == ((count, len(about["classes"])) if soft else (count,))
    artefact.require(path, MAKER, fits, "its labels have another shape than it says")
    right = labels.isfinite().all() if soft else ((labels >= 0) & (labels < len(about["classes"]))).all()
    artefact.require(path, MAKER, bool(right), "its labels are not finite or out of range")
    artefact.require(path, MAKER, math.isfinite(lr) and lr > 0, f"its learning rate is {lr}")


def _check_network(path: Path, about: dict[str, Any]) -> None:
    """UserError where the network of the header has more parameters than any that is meant; none of them is allocated.

    Each option is bounded by itself, not their product. Networks that are not installed are told where they are needed.
    """
    try:
        count = _parameters(
            json.dumps([about["network"], about["channels"], len(about["classes"]), about["resolution"]])
        )
    except UserError:
        return
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise artefact.damaged(path, MAKER, f"its header is impossible: network: {error}") from None
    fits = count <= MOST_PARAMETERS
    artefact.require(path, MAKER, fits, f"its header is impossible: network: {count} parameters are too many")


@lru_cache
def _parameters(network: str) -> int:
    """The number of parameters of a network: [spec, channels, classes, resolution] in JSON, so that it can be kept."""
    spec, channels, classes, resolution = json.loads(network)
    about = {"channels": channels, "classes": range(classes), "resolution": resolution}
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Architecture.of(spec, about).build().parameters())


def snapshot_path(folder: Path, iteration: int) -> Path:
    """Where the snapshot after `iteration` updates is kept."""
    return folder / f"iteration-{iteration:07d}.h5"


def iteration_of(path: Path) -> int:
    """The iteration that a snapshot's name tells."""
    return int(path.stem.removeprefix("iteration-"))


def snapshots(folder: Path) -> list[Path]:
    """All snapshots of a folder, by iteration."""
    return sorted(folder.glob("iteration-*.h5"), key=iteration_of)
