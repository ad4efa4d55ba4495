"""A distillation's state, as named tensors, and the snapshots that it resumes from."""

import math
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from attcli import coding, runtime
from attcli.coding import Coding
from attcli.data.normalise import Normaliser
from attcli.errors import UserError
from attcli.parameterisations import Coded, Space
from attcli.store import artefact

KIND = "snapshot"
MAKER = "attcli distill"

LR, RATES, LOGITS, LABELS = "lr", "rates", "logits", "labels"
"""Names of a state's tensors that are not the parameterisation's: learned numbers, and fixed labels."""

BESIDE = (LR, RATES, LOGITS)
"""Those of them that are learned."""

FROZEN = "frozen"
"""The constant, u8 (n,), that is 1 for images which stay as they are; a state whose images are all moved has none."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class State:
    """A synthetic set and what its optimisation needs to go on after `iteration` updates, as named tensors.

    learned: what the outer optimiser moves: the parameterisation's tensors, `lr` (the student's learning rate, a
    scalar) and, where labels are learned, their `logits` (n, K). Where each step of the student has a learning rate of
    its own, softplus of `rates` (N,) are those, and `lr` is their mean.
    constants: `labels`, classes (n,) or a teacher's logits (n, K), where they are not learned; `frozen`, where some
    images stay as they are; and the parameterisation's own.
    averages: the moving average of the parameterisation's tensors.
    moments: what the optimiser remembers of each learned tensor.
    scales: what learned tensors are rounded by, where their storage has scales; those of averages follow from them.
    counts: how often an update was projected, rejected or skipped.
    memory: what the objective remembers, if it does (`attcli.objectives.Memory`).
    """

    iteration: int
    learned: Tensors
    constants: Tensors
    averages: Tensors
    moments: dict[str, Tensors]
    counts: dict[str, int]
    scales: dict[str, Tensors] = field(default_factory=dict)
    memory: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def labels(self) -> Tensor:
        """Classes (n,) or logits (n, K)."""
        return self.learned[LOGITS] if LOGITS in self.learned else self.constants[LABELS]

    @property
    def lr(self) -> Tensor:
        """The student's learning rate, a scalar."""
        return self.learned[LR]

    @property
    def rates(self) -> Tensor:
        """What students train with: the learning rate, a scalar, or that of each of their steps (N,)."""
        return softplus(self.learned[RATES]) if RATES in self.learned else self.lr

    def coded(self, averaged: bool = False) -> Coded:
        """The parameterisation's tensors, last or averaged, with its constants."""
        learned = self.averages if averaged else {n: x for n, x in self.learned.items() if n not in BESIDE}
        return Coded(learned, {name: x for name, x in self.constants.items() if name != LABELS})

    def to(self, device: torch.device) -> "State":
        """The same state on a device."""

        def moved(tensors: Mapping[str, Tensor]) -> Tensors:
            return {name: x.to(device) for name, x in tensors.items()}

        return replace(
            self,
            learned=moved(self.learned),
            constants=moved(self.constants),
            averages=moved(self.averages),
            moments={name: moved(kept) for name, kept in self.moments.items()},
            scales={name: moved(kept) for name, kept in self.scales.items()},
            memory=moved(self.memory),
        )


def header_of(header: artefact.Header, kind: str, state: State) -> artefact.Header:
    """The header of a file of that kind with this state."""
    about = {**header.about, "iteration": state.iteration, "counts": state.counts}
    return artefact.Header(kind, header.fingerprint, header.settings, about, header.versions)


def named(group: str, values: Mapping[str, Tensor]) -> artefact.Arrays:
    """Tensors as arrays below a group of a file."""
    return {f"{group}/{name}": x.detach().cpu().numpy() for name, x in values.items()}


def below(group: str, arrays: artefact.Arrays) -> artefact.Arrays:
    """The arrays below a group, by their names inside it."""
    prefix = f"{group}/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def tensors(group: str, arrays: artefact.Arrays) -> Tensors:
    """The tensors below a group, by their names inside it."""
    return {name: torch.from_numpy(np.asarray(array)) for name, array in below(group, arrays).items()}


def labels_as_kept(decoder: Coding, state: State) -> Tensor:
    """Classes (n,) or logits (n, K): learned ones as the file would hold them."""
    if LOGITS not in state.learned:
        return state.labels
    return decoder.labels(state.labels, state.scales.get(LOGITS, {}))


def packed(decoder: Coding, state: State) -> tuple[dict[str, artefact.Arrays], artefact.Arrays]:
    """The arrays of a set's file: those of its variants, `synthetic` and `ema`, and what both need beside them."""
    variants = {
        "synthetic": decoder.pack(state.coded().learned, state.scales),
        "ema": decoder.pack(state.averages, decoder.fit(state.averages)),
    }
    return variants, {**named("constants", state.coded().constants), **_packed_labels(decoder, state)}


def _packed_labels(decoder: Coding, state: State) -> artefact.Arrays:
    labels = state.labels.detach().cpu()
    if LOGITS not in state.learned or decoder.label_storage is None:
        return {"labels": labels.numpy()}
    parts = decoder.label_storage.pack(labels, coding.on_cpu(state.scales.get(LOGITS, {})))
    return {f"labels/{part}": array for part, array in parts.items()}


def write(path: Path, header: artefact.Header, state: State) -> None:
    """Write all of a state, unrounded, without the normaliser: distilling resumes from it."""
    arrays = {
        **named("learned", state.learned),
        **named("constants", state.constants),
        **named("averages", state.averages),
        **named("memory", state.memory),
    }
    for name, kept in state.moments.items():
        arrays |= named(f"moments/{name}", kept)
    for name, kept in state.scales.items():
        arrays |= named(f"scales/{name}", kept)
    artefact.write(path, header_of(header, KIND, state), arrays)


def read(path: Path, normaliser: Normaliser) -> State:
    """Read and verify a snapshot: all that distilling resumes from is there, and finite."""
    header, arrays = artefact.read(path, KIND, MAKER)
    with refused(path):
        state = of(header, arrays)
    complete = state.coded().learned.keys() == state.averages.keys() and all(state.moments.values())
    artefact.require(path, MAKER, complete, "a part of its state is missing")
    if FROZEN in state.constants:
        fits = state.constants[FROZEN].shape == (count_of(header.about),)
        artefact.require(path, MAKER, fits, "what says which images stay as they are does not fit them")
    finite = all(bool(x.isfinite().all()) for x in state.memory.values())
    artefact.require(path, MAKER, finite, "what its objective remembers is not all finite")
    variants, labels = decoded(path, coding_of(path, header.about, normaliser), state)
    check(path, header.about, variants, labels, float(state.lr))
    return state


def of(header: artefact.Header, arrays: artefact.Arrays) -> State:
    """The state in a snapshot's arrays. ValueError or KeyError where its learning rate is none."""
    learned = tensors("learned", arrays)
    if learned[LR].numel() != 1:
        raise ValueError("its learning rate is not one number")
    scales = {name: tensors(f"scales/{name}", arrays) for name in learned}
    return State(
        iteration=header.about["iteration"],
        learned=learned,
        constants=tensors("constants", arrays),
        averages=tensors("averages", arrays),
        moments={name: tensors(f"moments/{name}", arrays) for name in learned},
        counts=header.about["counts"],
        scales={name: parts for name, parts in scales.items() if parts},
        memory=tensors("memory", arrays),
    )


def decoded(path: Path, decoder: Coding, state: State) -> tuple[Tensors, Tensor]:
    """The images of a snapshot's variants, and its labels, as the set's file would hold them.

    UserError where its numbers are not those of its parameterisation and storage.
    """
    averaged = state.coded(averaged=True)
    with refused(path):
        variants = {
            "synthetic": decoder.images(state.coded(), state.scales),
            "ema": decoder.images(averaged, decoder.fit(averaged.learned)),
        }
        return variants, labels_as_kept(decoder, state)


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """What arrays or options that do not fit each other raise becomes a UserError."""
    try:
        yield
    except (ValueError, LookupError, TypeError, RuntimeError, ArithmeticError) as error:
        raise artefact.damaged(path, MAKER, error) from None


SHARE, SMALL = 0.5, 10**8
"""A set may take at most this part of the free memory when it is decoded, or so many bytes."""


def coding_of(path: Path, about: Mapping[str, Any], normaliser: Normaliser | None) -> Coding:
    """How the set of a file with this header is learned and kept; files that do not say hold pixels in float32.

    UserError where the header's choices are impossible, or its images would take too much memory.
    """
    with refused(path):
        decoder = coding.load(about.get("coding") or {}, Space(about["channels"], about["resolution"], normaliser))
    needed = 2 * coding.FLOAT32_BYTES * count_of(about) * about["channels"] * about["resolution"] ** 2
    free = runtime.free_memory()
    if needed > max(SMALL, SHARE * free):
        raise UserError(
            f"{path} says that it holds {count_of(about):,} images, which take {needed / 1e9:,.1f} GB of memory to "
            f"decode; {free / 1e9:.1f} GB are free: name another file"
        )
    return decoder


def count_of(about: Mapping[str, Any]) -> int:
    """The images of the set that a header is about."""
    return len(about["classes"]) * int(about.get("images_per_class") or about["ipc"])


def check(path: Path, about: dict[str, Any], variants: Tensors, labels: Tensor, lr: float) -> None:
    """UserError unless the set is finite, and of the size and shape that the header says."""
    count = count_of(about)
    shape = (count, about["channels"], about["resolution"], about["resolution"])
    for name, images in variants.items():
        artefact.require(path, MAKER, images.shape == shape, f"its images ({name}) have another shape than it says")
        artefact.require(path, MAKER, bool(images.isfinite().all()), f"its images ({name}) are not all finite")
    soft = labels.is_floating_point()
    fits = labels.shape == ((count, len(about["classes"])) if soft else (count,))
    fits = fits and (soft or labels.dtype == torch.int64)
    artefact.require(path, MAKER, fits, "its labels have another shape or type than it says")
    right = labels.isfinite().all() if soft else ((labels >= 0) & (labels < len(about["classes"]))).all()
    artefact.require(path, MAKER, bool(right), "its labels are not finite or out of range")
    artefact.require(path, MAKER, math.isfinite(lr) and lr > 0, f"its learning rate is {lr}")


def path_of(folder: Path, iteration: int) -> Path:
    """Where the snapshot after `iteration` updates is kept."""
    return folder / f"iteration-{iteration:07d}.h5"


def iteration_of(path: Path) -> int:
    """The iteration that a snapshot's name tells."""
    return int(path.stem.removeprefix("iteration-"))


def first_missing(saved: Container[int], every: int, iterations: int) -> int:
    """The first of the snapshots after every so many iterations that is not there; iterations + 1 where none lacks."""
    return next((i for i in range(every, iterations, every) if i not in saved), iterations + 1)


def snapshots(folder: Path) -> list[Path]:
    """All snapshots of a folder, by iteration; what has another name than they have is left alone."""
    files = [file for file in folder.glob("iteration-*.h5") if re.fullmatch(r"iteration-\d+", file.stem)]
    return sorted(files, key=iteration_of)
