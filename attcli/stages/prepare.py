"""prepare: a dataset as its authors split it becomes dataset.h5, with the normaliser fitted on its training part.

Images are taken some at a time, in constant memory. What has to be decoded is kept in the work folder block by block,
so that a killed process goes on from there.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor

from attcli.data import imagefiles, normalise, readers, sources
from attcli.data.inputs import of_each_class
from attcli.data.sources import DatasetInfo, Files, Split
from attcli.errors import DamagedError, UserError
from attcli.progress import track
from attcli.runtime import stream, versions
from attcli.settings import Settings
from attcli.stages import decoded, identity
from attcli.stages.decoded import Rows
from attcli.stages.run import Run, may_write
from attcli.store import artefact, dataset
from attcli.store.files import set_aside
from attcli.store.publishing import publish
from attcli.store.spool import Spool, remove_spool

Indices = NDArray[np.int64]

NO_DEVIATION = 1e-9
"""Deviations below it are rounding alone: one byte that differs among a billion pixels makes more than 1e-7."""

TOLD_CLASSES = 10
"""The log tells the number of images of so many classes."""

SLOW_ZCA = 4000
"""Values per image above which it is said that ZCA takes its time."""


def run(run: Run) -> None:
    """Make dataset.h5, unless it is there."""
    imagefiles.forget()
    fingerprint, decisive = identity.prepare(run.settings)
    is_there = may_write(run, run.dataset, dataset.KIND, dataset.MAKER, fingerprint, decisive)
    if is_there and run.fresh != "prepare":
        logger.debug("{} is there already", run.dataset)
        return
    with run.working("prepare", fingerprint) as folder:
        target = folder / "dataset.h5"
        if target.exists():
            try:
                artefact.header(target, dataset.KIND, dataset.MAKER)
            except DamagedError as error:
                set_aside(target, error)
        if not target.exists():
            begun = time.perf_counter()
            try:
                _make(run.settings, folder, target, fingerprint, decisive)
            finally:
                readers.end()
            logger.info("prepared {} in {:.1f} s", run.settings.prepare.dataset, time.perf_counter() - begun)
        for name in dataset.SPLITS:  # of a process that was killed before it could delete them, too
            remove_spool(folder, _spooled(name))
        publish(target, run.dataset, force=run.force)


def _split(train: Split, settings: Settings) -> dict[str, Indices]:
    """The indices of the training and validation parts, in the order of the source."""
    prepare, seed = settings.prepare, settings.seed_of("prepare")
    labels = torch.from_numpy(train.labels)
    counts = labels.bincount()
    kept = torch.arange(len(labels))
    if prepare.limit_per_class:
        counts = counts.clamp(max=prepare.limit_per_class)
        kept = of_each_class(labels, counts.tolist(), stream(seed, "limit")).sort().values
    share = counts.double() * prepare.validation / counts.sum()
    held = share.floor().long()
    held[(share - held).argsort(descending=True, stable=True)[: prepare.validation - int(held.sum())]] += 1
    taken = kept[of_each_class(labels[kept], held.tolist(), stream(seed, "validation"))].sort().values
    rest = kept[~torch.isin(kept, taken)]
    return {"train": rest.numpy(), "validation": taken.numpy()}


def _normaliser(settings: Settings, info: DatasetInfo, train: Rows) -> normalise.Normaliser:
    if settings.prepare.normalise == "literature":
        assert info.literature is not None  # the settings' checks
        return normalise.given(*info.literature)

    if settings.prepare.normalise == "standardise":
        fitted = normalise.fit_bytes(map(torch.from_numpy, train.pieces()), info.value_scale)
        if fitted.std is not None and fitted.std.min() < NO_DEVIATION:
            raise UserError(
                f"channel {int(fitted.std.argmin()) + 1} of {info.channels} is the same in all training images, so it "
                f"has no deviation to divide by; set prepare.normalise=zca, or leave the channel out of the images"
            )
        return fitted

    def chunks() -> Iterator[Tensor]:
        for piece in train.pieces(normalise.chunk_size(info.values)):
            yield torch.from_numpy(piece).float() * info.value_scale

    if info.values > SLOW_ZCA:
        logger.info("ZCA whitening of {:,} values per image takes minutes, once", info.values)
    return normalise.fit_chunks(settings.prepare.normalise, chunks, settings.prepare.zca_eps)


def _make(settings: Settings, folder: Path, target: Path, fingerprint: str, decisive: dict[str, object]) -> None:
    """Write the dataset's file."""
    info = sources.describe(settings.images)
    source = sources.load(settings.images)
    parts: dict[str, tuple[Split, Indices]] = {
        name: (source.train, index) for name, index in _split(source.train, settings).items()
    }
    left = np.bincount(np.asarray(source.train.labels)[parts["train"][1]], minlength=len(source.classes))
    if not left.all():
        raise UserError(
            f"prepare.validation {settings.prepare.validation} leaves class {source.classes[left.argmin()]} no "
            f"training image; lower it, or add images to the class"
        )
    parts["test"] = source.test, np.arange(len(source.test.labels))
    rows = _rows(settings, info, parts, folder)
    counts = np.bincount(rows["train"].labels, minlength=len(source.classes))
    if not counts.all():
        raise UserError(
            f"class {source.classes[counts.argmin()]} has no training image that can be read; fix its files"
        )
    normaliser = _normaliser(settings, info, rows["train"])
    arrays: dict[str, NDArray[np.int64] | artefact.Streamed] = {}
    for name, part in rows.items():
        arrays[f"{name}/images"] = artefact.Streamed(part.shape, np.dtype(np.uint8), part.pieces)
        arrays[f"{name}/labels"] = part.labels.astype(np.int64)
    about = {
        "dataset": info.name,
        "classes": source.classes,
        "channels": info.channels,
        "resolution": info.resolution,
        "value_scale": info.value_scale,
        "normaliser": {"kind": normaliser.kind, "eps": normaliser.eps, "sha256": normaliser.digest()},
        "seed": settings.seed_of("prepare"),
    }
    if (files := sources.digest(settings.images)) is not None:
        about["files"] = files
    sizes = ", ".join(f"{len(part.labels)} {name}" for name, part in rows.items())
    logger.info("{}: {} images, {}", info.title, sizes, normaliser.kind)
    if isinstance(source.train, Files):
        logger.info("training images of each class: {}", _counted(source.classes, counts.tolist()))
    header = artefact.Header(dataset.KIND, fingerprint, dict(decisive), about, versions())
    dataset.write(target, header, arrays, normaliser)


def _counted(classes: Sequence[str], counts: Sequence[int]) -> str:
    """The number of images of each class, in words; of the first ten classes alone, where there are more."""
    pairs = [f"{name} {count}" for name, count in zip(classes[:TOLD_CLASSES], counts[:TOLD_CLASSES], strict=True)]
    left = len(classes) - len(pairs)
    return ", ".join(pairs) + (f", and {left} more" if left else "")


def _spooled(part: str) -> str:
    """The name of the spool that a part is decoded into."""
    return f"{part}-decoded"


def _rows(
    settings: Settings,
    info: DatasetInfo,
    parts: dict[str, tuple[Split, Indices]],
    folder: Path,
) -> dict[str, Rows]:
    """The images of each part; those in files are decoded, each part into a spool of its own."""
    shape = (info.channels, info.resolution, info.resolution)
    files = {name: (split, index) for name, (split, index) in parts.items() if isinstance(split, Files)}
    rows = {name: decoded.held(*part, shape) for name, part in parts.items() if name not in files}
    if files:
        spools = {name: Spool(folder, _spooled(name), shape) for name in files}
        _decode(files, spools, shape)
        rows |= {name: decoded.of_spool(*part, spools[name], shape) for name, part in files.items()}
        _check(settings, files, spools)
    return {name: rows[name] for name in parts}


def _decode(files: dict[str, tuple[Files, Indices]], spools: dict[str, Spool], shape: tuple[int, ...]) -> None:
    """Decode what the spools lack."""
    size = decoded.images_of_a_piece(shape)
    done = sum(-(-spool.rows // size) for spool in spools.values())
    if done:
        logger.info("{} images were decoded before", sum(spool.rows for spool in spools.values()))
    with track("blocks of images", sum(-(-len(index) // size) for _, index in files.values()), done) as progress:
        for name, (split, index) in files.items():
            decoded.decode(split, index, spools[name], shape, progress)


def _check(settings: Settings, files: dict[str, tuple[Files, Indices]], spools: dict[str, Spool]) -> None:
    """UserError where too many images are unreadable; else what was odd is logged."""
    problems = [
        f"{split.name(int(index[row]))}: {why}"
        for name, (split, index) in files.items()
        for row, why in spools[name].problems.items()
    ]
    total = sum(len(index) for _, index in files.values())
    decoded.check_problems(problems, total, settings.prepare.allow_unreadable)
    if animated := sum(spool.animated for spool in spools.values()):
        logger.info("{} images have more than one frame; the first is taken", animated)
