"""dataset.h5: images as integers, the splits, and the normaliser fitted on the training part."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attcli import runtime
from attcli.data.inputs import Inputs, inputs_of, network_inputs
from attcli.data.normalise import Normaliser
from attcli.data.sources import DatasetInfo
from attcli.store import artefact, hdf5
from attcli.store import normaliser as normaliser_file
from attcli.store.blocks import FileImages, digests_of, rows_of_a_block

KIND = "dataset"
MAKER = "attcli prepare"
SPLITS = ("train", "validation", "test")
TRAIN = "train/images"
DIGESTS = digests_of(TRAIN)

SHARE = 0.5
"""A file's images are read into memory where it takes at most this part of what is free of it."""


LARGE = 1 << 30
"""Training images of more bytes than this have digests by blocks, so that a part of them can be read alone."""

Images = Tensor | FileImages


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset. `about` holds name, classes (names), channels, resolution and value_scale.

    The images of each split are u8 (N, C, H, W), in memory or, where they would take too much of it, in the file.
    """

    about: dict[str, Any]
    normaliser: Normaliser
    images: dict[str, Images]
    labels: dict[str, Tensor]
    sha256: str

    def inputs(self, split: str, indices: Tensor | None = None) -> Tensor:
        """A split's images, or those with the chosen indices, as network inputs f32 (N, C, H, W) on the CPU."""
        images = self.images[split]
        index = torch.arange(len(images)) if indices is None else indices
        return network_inputs(images[index], self.about["value_scale"], self.normaliser)

    def network_inputs(
        self, split: str, device: torch.device, dtype: torch.dtype, normaliser: Normaliser | None = None
    ) -> Inputs:
        """A split's images by their indices, as network inputs on the device under this normaliser, or another one."""
        return inputs_of(self.images[split], self.about["value_scale"], normaliser or self.normaliser, device, dtype)


def write(
    path: Path,
    header: artefact.Header,
    arrays: Mapping[str, NDArray[Any] | artefact.Streamed],
    normaliser: Normaliser,
) -> str:
    """Write `arrays` (train/images, train/labels, …) and the normaliser; returns the checksum."""
    shape = arrays[TRAIN].shape
    digested = {TRAIN: rows_of_a_block(shape)} if int(np.prod(shape)) > LARGE else None
    return artefact.write(path, header, {**arrays, **normaliser_file.arrays_of(normaliser)}, digested=digested)


def read(path: Path) -> Dataset:
    """Read and verify a dataset file; images for which there is too little memory stay in it."""
    if path.is_file() and path.stat().st_size > runtime.free_memory() * SHARE:
        file, header = artefact.open_file(path, KIND, MAKER)
        with file:
            return _in_file(path, file, header)
    header, arrays = artefact.read(path, KIND, MAKER, covered=(DIGESTS,))
    _check(path, header.about, arrays)
    return Dataset(
        about=header.about,
        normaliser=normaliser_file.of(header.about, arrays),
        images={split: torch.from_numpy(arrays[f"{split}/images"]) for split in SPLITS},
        labels={split: torch.from_numpy(arrays[f"{split}/labels"]) for split in SPLITS},
        sha256=header.sha256,
    )


def facts(path: Path) -> DatasetInfo:
    """The facts of the images in a dataset file, as their source described them; images left out are not counted."""
    file, header = artefact.open_file(path, KIND, MAKER)
    with file:
        try:
            kept = artefact.datasets(file, KIND, path)
            labels = hdf5.read(path, {split: kept[f"{split}/labels"] for split in SPLITS})
            trained_on = np.concatenate([labels["train"], labels["validation"]])
            counts = np.bincount(trained_on, minlength=len(header.about["classes"]))
        except (hdf5.BadFileError, OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise artefact.unreadable(path, MAKER, error) from None
    about = header.about
    return DatasetInfo(
        about["dataset"],
        f"the images in {path}",
        classes=len(about["classes"]),
        channels=about["channels"],
        resolution=about["resolution"],
        train=int(counts.sum()),
        smallest_class=int(counts.min()),
        counts=tuple(counts.tolist()),
        test=len(labels["test"]),
        value_scale=about["value_scale"],
        seeded=header.settings.get("seed") is not None,
    )


def _in_file(path: Path, file: h5py.File, header: artefact.Header) -> Dataset:
    """A dataset whose images stay in its file. All else is sealed, and was compared when the file was opened."""
    try:
        kept = artefact.datasets(file, KIND, path)
        arrays = hdf5.read(path, {name: array for name, array in kept.items() if not name.endswith("/images")})
        stand_ins = {
            name: np.broadcast_to(np.zeros((), array.dtype), array.shape)
            for name, array in kept.items()
            if name.endswith("/images")
        }
        offsets = {name: hdf5.offset(kept[name]) for name in stand_ins}
    except (hdf5.BadFileError, OSError, RuntimeError) as error:
        raise artefact.unreadable(path, MAKER, error) from None
    _check(path, header.about, {**arrays, **stand_ins})
    digests = arrays.get(DIGESTS)
    if digests is not None:
        blocks = -(-len(stand_ins[TRAIN]) // rows_of_a_block(stand_ins[TRAIN].shape))
        artefact.require(path, MAKER, digests.shape == (blocks, 32), "digests of its images are missing")

    def images(split: str) -> FileImages:
        name = f"{split}/images"
        return FileImages(path, MAKER, offsets[name], stand_ins[name].shape, digests if name == TRAIN else None)

    return Dataset(
        about=header.about,
        normaliser=normaliser_file.of(header.about, arrays),
        images={split: images(split) for split in SPLITS},
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
        require(labels.dtype == np.int64 and labels.ndim == 1, f"{split} labels are no class numbers")
        require(
            images.dtype == np.uint8 and images.shape == (len(labels), *shape), f"{split} images have another shape"
        )
        in_range = not labels.size or (labels.min() >= 0 and labels.max() < len(about["classes"]))
        require(in_range, f"{split} labels are out of range")
    normaliser_file.check(path, MAKER, about, arrays)
