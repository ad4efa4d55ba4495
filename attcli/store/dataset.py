"""dataset.h5: images as integers, the splits, and the normaliser fitted on the training part."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    return Dataset(
        about=header.about,
        normaliser=normaliser_of(header.about, arrays),
        images={split: torch.from_numpy(arrays[f"{split}/images"]) for split in SPLITS},
        labels={split: torch.from_numpy(arrays[f"{split}/labels"]) for split in SPLITS},
        sha256=header.sha256,
    )
