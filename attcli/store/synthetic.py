"""synthetic.h5: a distilled set with all that scoring it needs, and the snapshots from which distilling resumes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attcli.data.normalise import Normaliser
from attcli.store import artefact
from attcli.store.dataset import normaliser_arrays, normaliser_of

KIND = "synthetic"
SNAPSHOT = "snapshot"
MAKER = "attcli distill"
LARGEST_KEPT_NORMALISER = 3072


@dataclass(frozen=True)
class State:
    """A synthetic set and what its optimisation needs to go on after `iteration` updates.

    images, ema (n, C, H, W) in network-input space; labels i64 (n,) or logits f32 (n, K); lr a scalar; `momentum_*`
    are the velocities of the two optimisers; `counts` how often an update was projected or skipped.
    """

    iteration: int
    images: Tensor
    labels: Tensor
    lr: Tensor
    ema: Tensor
    momentum_images: Tensor
    momentum_labels: Tensor
    momentum_lr: Tensor
    counts: dict[str, int]


TENSORS = ("images", "labels", "lr", "ema", "momentum_images", "momentum_labels", "momentum_lr")
PUBLIC = ("images", "labels", "lr", "ema")


def _arrays(state: State, names: tuple[str, ...]) -> artefact.Arrays:
    return {name: getattr(state, name).detach().cpu().numpy() for name in names}


def _header(header: artefact.Header, kind: str, state: State) -> artefact.Header:
    about = {**header.about, "iteration": state.iteration, "counts": state.counts}
    return artefact.Header(kind, header.fingerprint, header.settings, about, header.versions)


def write(path: Path, header: artefact.Header, state: State, normaliser: Normaliser) -> None:
    """Write the set, with its normaliser if that is small."""
    small = normaliser.mean.size <= LARGEST_KEPT_NORMALISER
    arrays = {**_arrays(state, PUBLIC), **(normaliser_arrays(normaliser) if small else {})}
    artefact.write(path, _header(header, KIND, state), arrays)


def write_snapshot(path: Path, header: artefact.Header, state: State) -> None:
    """Write the set with its optimiser's state, without the normaliser."""
    artefact.write(path, _header(header, SNAPSHOT, state), _arrays(state, TENSORS))


def read_snapshot(path: Path) -> State:
    """Read and verify a snapshot."""
    header, arrays = artefact.read(path, SNAPSHOT, MAKER)
    tensors = {name: torch.from_numpy(np.asarray(arrays[name])) for name in TENSORS}
    return State(iteration=header.about["iteration"], counts=header.about["counts"], **tensors)


@dataclass(frozen=True)
class SyntheticSet:
    """A distilled set as read from a file: variants by name (`synthetic`, `ema`), labels and learning rate."""

    about: dict[str, Any]
    settings: dict[str, Any]
    variants: dict[str, Tensor]
    labels: Tensor
    lr: float
    sha256: str
    normaliser: Normaliser | None


def read(path: Path, kind: str = KIND) -> SyntheticSet:
    """Read and verify a set, or with kind SNAPSHOT the set in a snapshot."""
    header, arrays = artefact.read(path, kind, MAKER)
    kept = "normaliser/mean" in arrays
    return SyntheticSet(
        about=header.about,
        settings=header.settings,
        variants={"synthetic": torch.from_numpy(arrays["images"]), "ema": torch.from_numpy(arrays["ema"])},
        labels=torch.from_numpy(arrays["labels"]),
        lr=float(arrays["lr"]),
        sha256=header.sha256,
        normaliser=normaliser_of(header.about, arrays) if kept else None,
    )


def snapshot_path(folder: Path, iteration: int) -> Path:
    """Where the snapshot after `iteration` updates is kept."""
    return folder / f"iteration-{iteration:07d}.h5"


def iteration_of(path: Path) -> int:
    """The iteration that a snapshot's name tells."""
    return int(path.stem.removeprefix("iteration-"))


def snapshots(folder: Path) -> list[Path]:
    """All snapshots of a folder, by iteration."""
    return sorted(folder.glob("iteration-*.h5"), key=iteration_of)
