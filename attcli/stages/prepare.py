"""prepare: a dataset as its authors split it becomes dataset.h5, with the normaliser fitted on its training part."""

import time

import numpy as np
import torch
from loguru import logger

from attcli import registry
from attcli.data import normalise
from attcli.data.inputs import of_each_class
from attcli.data.sources import DatasetInfo, Images, Source
from attcli.errors import DamagedError
from attcli.runtime import stream, versions
from attcli.settings import Settings
from attcli.stages import identity
from attcli.stages.run import Run, may_write
from attcli.store import artefact, dataset
from attcli.store.files import set_aside
from attcli.store.publishing import publish


def run(run: Run) -> None:
    """Make dataset.h5, unless it is there."""
    fingerprint, chosen = identity.prepare(run.settings)
    is_there = may_write(run, run.dataset, dataset.KIND, dataset.MAKER, fingerprint, chosen)
    if is_there and run.fresh != "prepare":
        logger.debug("{} is there already", run.dataset)
        return
    with run.working("prepare", fingerprint) as folder:
        made = folder / "dataset.h5"
        if made.exists():
            try:
                artefact.header(made, dataset.KIND, dataset.MAKER)
            except DamagedError as error:
                set_aside(made, error)
        if not made.exists():
            begun = time.perf_counter()
            header, arrays, normaliser = _make(run.settings, fingerprint, chosen)
            dataset.write(made, header, arrays, normaliser)
            logger.info("prepared {} in {:.1f} s", run.settings.prepare.dataset, time.perf_counter() - begun)
        publish(made, run.dataset, force=run.force)


def _load(settings: Settings) -> Source:
    info = registry.dataset(settings.prepare.dataset)
    source: Source = registry.source(info.name).load(settings.runtime.data_dir, info.name)
    return source


def _split(train: Images, settings: Settings) -> dict[str, Images]:
    """The training and validation parts, in the order of the source."""
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
    return {
        name: Images(train.images[index.numpy()], train.labels[index.numpy()])
        for name, index in (("train", rest), ("validation", taken))
    }


def _normaliser(settings: Settings, info: DatasetInfo, train: Images) -> normalise.Normaliser:
    if settings.prepare.normalise == "literature":
        assert info.literature is not None  # the settings' checks
        return normalise.given(*info.literature)
    pixels = torch.from_numpy(train.images).float() * info.value_scale
    return normalise.fit(settings.prepare.normalise, pixels, settings.prepare.zca_eps)


def _make(
    settings: Settings, fingerprint: str, chosen: dict[str, object]
) -> tuple[artefact.Header, artefact.Arrays, normalise.Normaliser]:
    info = registry.dataset(settings.prepare.dataset)
    source = _load(settings)
    parts = {**_split(source.train, settings), "test": source.test}
    normaliser = _normaliser(settings, info, parts["train"])
    arrays: artefact.Arrays = {}
    for name, part in parts.items():
        arrays[f"{name}/images"] = part.images
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
    sizes = ", ".join(f"{len(part.labels)} {name}" for name, part in parts.items())
    logger.info("{}: {} images, {}", info.title, sizes, normaliser.kind)
    return artefact.Header(dataset.KIND, fingerprint, dict(chosen), about, versions()), arrays, normaliser
