"""dataset.h5: images as integers, the splits, and the normaliser fitted on the training part."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attcli.data.inputs import network_inputs
from attcli.data.normalise import Normaliser
from attcli.store import artefact

KIND = "dataset"
MAKER = "attcli prepare"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset. `about` holds name, classes (names), channels, resolution and value_scale."""

    about: dict[str, Any]
    normaliser: Normaliser
    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    sha256: str

    def inputs(self, split: str, chosen: Tensor | None = None) -> Tensor:
        """A split's images, or those with the chosen indices, as network inputs f32 (N, C, H, W) on the CPU."""
        images = self.images[split] if chosen is None else self.images[split][chosen]
        return network_inputs(images, self.about["value_scale"], self.normaliser)


def normaliser_arrays(normaliser: Normaliser) -> artefact.Arrays:
    """A normaliser's arrays under their names in files."""
    parts = {name: getattr(normaliser, name) for name in ("mean", "std", "vectors", "values")}
    return {f"normaliser/{name}": part for name, part in parts.items() if part is not None}


def normaliser_of(about: dict[str, Any], arrays: artefact.Arrays) -> Normaliser:
    """The normaliser stored in a file."""
    parts = {name: arrays.get(f"normaliser/{name}") for name in ("mean", "std", "vectors", "values")}
    return Normaliser(kind=about["normaliser"]["kind"], eps=about["normaliser"]["eps"], **parts)  # type: ignore[arg-type]


def write(path: Path, header: artefact.Header, arrays: artefact.Arrays, normaliser: Normaliser) -> str:
    """Write `arrays` (train/images, train/labels, …) and the normaliser; returns the checksum."""
    return artefact.write(path, header, {**arrays, **normaliser_arrays(normaliser)})


def read(path: Path) -> Dataset:
    """Read and verify a dataset file."""
    header, arrays = artefact.read(path, KIND, MAKER)
    _check(path, header.about, arrays)
    return Dataset(
        about=header.about,
        normaliser=normaliser_of(header.about, arrays),
        images={split: torch.from_numpy(arrays[f"{split}/images"]) for split in SPLITS},
        labels={split: torch.from_numpy(arrays[f"{split}/labels"]) for split in SPLITS},
        sha256=header.sha256,
    )


def _check(path: Path, about: dict[str, Any], arrays: artefact.Arrays) -> None:
    """UserError unless the arrays are what the header says."""

    def require(fits: bool, problem: str) -> None:
        artefact.require(path, MAKER, fits, problem)

    shape = (about["channels"], about["resolution"], about["resolution"])
    for split in SPLITS:
        images, labels = arrays.get(f"{split}/images"), arrays.get(f"{split}/labels")
        if images is None or labels is None:
            raise artefact.damaged(path, MAKER, f"{split} is missing")
        require(
            images.dtype == np.uint8 and images.shape == (len(labels), *shape), f"{split} images have another shape"
        )
        require(labels.dtype == np.int64 and labels.ndim == 1, f"{split} labels are no class numbers")
        in_range = not labels.size or (labels.min() >= 0 and labels.max() < len(about["classes"]))
        require(in_range, f"{split} labels are out of range")
    check_normaliser(path, MAKER, about, arrays)


def check_normaliser(path: Path, maker: str, about: dict[str, Any], arrays: artefact.Arrays) -> None:
    """UserError unless a file's normaliser is what its header says, and can be divided by."""
    kept = {name.removeprefix("normaliser/"): x for name, x in arrays.items() if name.startswith("normaliser/")}
    values = about["channels"] * about["resolution"] ** 2
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "standardise": {"mean": (about["channels"],), "std": (about["channels"],)}
    }
    shapes["zca"] = {"mean": (values,), "vectors": (values, values), "values": (values,)}
    wanted = shapes[about["normaliser"]["kind"]]
    fits = {name: x.shape for name, x in kept.items()} == wanted and all(np.isfinite(x).all() for x in kept.values())
    artefact.require(path, maker, fits, "its normaliser is not what the header says")
    positive = (
        (kept["std"] > 0).all() if "std" in kept else bool((kept["values"] + about["normaliser"]["eps"] > 0).all())
    )
    artefact.require(path, maker, bool(positive), "its normaliser divides by zero")
