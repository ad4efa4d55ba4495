"""synthetic.h5: a distilled set with all that scoring it needs, and the snapshots from which distilling resumes."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from attcli.parameterisations import Coded
from attcli.store import artefact
from attcli.store.dataset import check_normaliser, normaliser_arrays, normaliser_of
from attcli.store.headers import MOST_PARAMETERS

KIND = "synthetic"
SNAPSHOT = "snapshot"
MAKER = "attcli distill"
LARGEST_KEPT_NORMALISER = 3072


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
    counts: how often an update was projected, rejected or skipped.
    """

    iteration: int
    learned: Tensors
    constants: Tensors
    averages: Tensors
    moments: dict[str, Tensors]
    counts: dict[str, int]

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
    """Write the set as its storage keeps it, with its normaliser if that is small."""
    coding = coding_of(header.about)
    last, average = state.coded(), state.coded(averaged=True)
    arrays = {
        **{f"synthetic/{name}": array for name, array in coding.pack(last.learned).items()},
        **{f"ema/{name}": array for name, array in coding.pack(average.learned).items()},
        **_named("constants", last.constants),
        "labels": state.labels.detach().cpu().numpy(),
        "lr": state.lr.detach().cpu().numpy(),
    }
    small = normaliser.mean.size <= LARGEST_KEPT_NORMALISER
    artefact.write(path, _header(header, KIND, state), {**arrays, **(normaliser_arrays(normaliser) if small else {})})


def write_snapshot(path: Path, header: artefact.Header, state: State) -> None:
    """Write all of a state, unrounded, without the normaliser: distilling resumes from it."""
    arrays = {
        **_named("learned", state.learned),
        **_named("constants", state.constants),
        **_named("averages", state.averages),
    }
    for name, kept in state.moments.items():
        arrays |= _named(f"moments/{name}", kept)
    artefact.write(path, _header(header, SNAPSHOT, state), arrays)


def read_snapshot(path: Path) -> State:
    """Read and verify a snapshot: all that distilling resumes from is there, and finite."""
    header, arrays = artefact.read(path, SNAPSHOT, MAKER)
    state = _state(header, arrays)
    coded = {"last": state.coded(), "averaged": state.coded(averaged=True)}
    whole = coded["last"].learned.keys() == coded["averaged"].learned.keys() and all(state.moments.values())
    artefact.require(path, MAKER, whole, "a part of its state is missing")
    decoder = coding_of(header.about)
    variants = {name: decoder.images(code) for name, code in coded.items()}
    _check(path, header.about, variants, state.labels, float(state.lr))
    return state


def _state(header: artefact.Header, arrays: artefact.Arrays) -> State:
    learned = _tensors("learned", arrays)
    return State(
        iteration=header.about["iteration"],
        learned=learned,
        constants=_tensors("constants", arrays),
        averages=_tensors("averages", arrays),
        moments={name: _tensors(f"moments/{name}", arrays) for name in learned},
        counts=header.about["counts"],
    )


def coding_of(about: Mapping[str, Any]) -> Coding:
    """How the set that a header is about is learned and kept; files that do not say hold pixels in float32."""
    plain = {"parameterisation": {"name": "pixels"}, "storage": {"name": "float32"}}
    choices = about.get("coding", plain)
    return coding.load(choices["parameterisation"], choices["storage"])


@dataclass(frozen=True)
class SyntheticSet:
    """A distilled set as read from a file: variants by name (`synthetic`, `ema`), labels and learning rate.

    The variants are decoded: network inputs (n, C, H, W). labels are classes (n,) or logits (n, K).
    """

    about: dict[str, Any]
    settings: dict[str, Any]
    variants: Tensors
    labels: Tensor
    lr: float
    sha256: str
    normaliser: Normaliser | None


def read(path: Path, kind: str | None = KIND) -> SyntheticSet:
    """Read and verify a set, or with kind SNAPSHOT the set in a snapshot, as its storage would keep it.

    With kind None it may be either.
    """
    if kind is None:
        kind = SNAPSHOT if artefact.kind_of(path) == SNAPSHOT else KIND
    header, arrays = artefact.read(path, kind, MAKER)
    decoder = coding_of(header.about)
    if kind == SNAPSHOT:
        state = _state(header, arrays)
        coded = {"synthetic": state.coded(), "ema": state.coded(averaged=True)}
        variants = {name: decoder.images(code) for name, code in coded.items()}
        labels, lr = state.labels, state.lr
    else:
        constants = _tensors("constants", arrays)
        packed = {name: _group(name, arrays) for name in ("synthetic", "ema")}
        if "images" in arrays:  # files of schema 1
            packed = {"synthetic": {"images/values": arrays["images"]}, "ema": {"images/values": arrays["ema"]}}
        variants = {
            name: decoder.parameterisation.decode(Coded(decoder.unpack(parts), constants))
            for name, parts in packed.items()
        }
        labels, lr = torch.from_numpy(arrays["labels"]), torch.from_numpy(np.asarray(arrays["lr"]))
    _check(path, header.about, variants, labels, float(lr))
    _check_network(path, header.about)
    if "normaliser/mean" in arrays:
        check_normaliser(path, MAKER, header.about, arrays)
    return SyntheticSet(
        about=header.about,
        settings=header.settings,
        variants=variants,
        labels=labels,
        lr=float(lr),
        sha256=header.sha256,
        normaliser=normaliser_of(header.about, arrays) if "normaliser/mean" in arrays else None,
    )


def _check(path: Path, about: dict[str, Any], variants: Tensors, labels: Tensor, lr: float) -> None:
    """UserError unless the set is finite, and of the size and shape that the header says."""
    count = len(about["classes"]) * (about.get("images_per_class") or about["ipc"])
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
