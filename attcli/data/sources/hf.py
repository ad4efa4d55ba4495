"""Datasets of the Hugging Face Hub, as `hf:owner/name`, through the package `datasets`; or of a folder, as `hf:PATH`.

The package looks into its cache first, and takes only what is there when the Hub can't be reached.
"""

import hashlib
import io
import json
import os
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from loguru import logger

from attcli.data import imagefiles
from attcli.data.contents import keep
from attcli.data.listing import Content
from attcli.data.sources import DatasetInfo, Request, Source
from attcli.errors import MissingError, UserError, brief, one_line, optional

INFO = (DatasetInfo("hf", "a dataset of the Hugging Face Hub", 0, 3, 0, 0, 0, 0),)

TEST_SPLITS = ("test", "validation", "val", "valid")

LONGEST = 190
"""Characters of a name; a prepared dataset's file takes 200, `hf:` among them."""

LOOKED_AT = 100
"""So many training images say what size the images have, and whether they are in colour."""


class Options(imagefiles.OwnOptions):
    """How the images are read."""


class Loaded(NamedTuple):
    """The splits of a dataset (test None where it has none) with the columns of images and labels, and the classes."""

    train: Any
    test: Any
    image: str
    label: str
    classes: list[str]


@cache
def _loaded(name: str) -> Loaded:
    """The dataset `hf:name`. MissingError where it can't be had, UserError where it is none of images with classes."""
    if not name:
        raise UserError("hf names no dataset; write --dataset hf:owner/name")
    if len(name) > LONGEST:
        raise UserError(f"hf:{brief(name)} is longer than {LONGEST} characters; give the folder a shorter path")
    try:
        datasets = optional("datasets", "hf", "datasets called hf:NAME")
    except UserError as error:
        raise MissingError(str(error)) from None
    try:
        splits = datasets.load_dataset(name)
    except Exception as error:  # the package raises errors of many others
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MissingError(
            f"hf:{name} cannot be loaded ({reason}); check its name, or load it once where the Hub can be reached"
        ) from None
    if "train" not in splits:
        raise UserError(f"hf:{name} has no split train (it has {', '.join(splits)}); choose another dataset")
    features = splits["train"].features
    image = next((key for key, feature in features.items() if isinstance(feature, datasets.Image)), None)
    label = next((key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)), None)
    if image is None or label is None:
        raise UserError(
            f"hf:{name} has no column of {'images' if image is None else 'classes'} (its columns are "
            f"{', '.join(features)}); choose another dataset"
        )
    test = _test_split(name, splits, label)
    encoded = {key: split.cast_column(image, datasets.Image(decode=False)) for key, split in splits.items()}
    classes = [one_line(name) for name in features[label].names]
    return Loaded(encoded["train"], encoded[test] if test else None, image, label, classes)


def _test_split(name: str, splits: Any, label: str) -> str | None:
    """The split to test on: the first one whose images all have a class, as those of some test splits have none."""
    for split in TEST_SPLITS:
        if split in splits:
            if label in splits[split].features and min(_labels(splits[split], label), default=-1) >= 0:
                return split
            logger.warning("the split {} of hf:{} has images without a class; it is not read", split, name)
    return None


def _of(request: Request) -> Loaded:
    return _loaded(request.name.partition(":")[2])


def _labels(split: Any, label: str) -> list[int]:
    """The class of each image of a split; -1 for one that has none."""
    return [-1 if number is None else number for number in split.select_columns(label)[:][label]]


def _file(split: Any, image: str, index: int) -> str | bytes:
    """An image's bytes, or its path where the dataset holds only that; no bytes for a row that has neither.

    A path is taken only where a file lies: a pipe or a device would be waited for.
    """
    value = split[index][image] or {}
    content: bytes | None = value.get("bytes")
    if content is not None:
        return content
    path: str = value.get("path") or ""
    return path if path and os.path.isfile(path) else b""


def _looked_at(loaded: Loaded) -> dict[str, Content]:
    """Size and colour of the first training images."""
    from PIL import Image

    from attcli.data.image import GREY, formats

    looked_at = {}
    for i in range(min(LOOKED_AT, len(loaded.train))):
        try:
            file = _file(loaded.train, loaded.image, i)
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=formats()) as image:
                looked_at[str(i)] = Content(0, "", image.size, image.mode not in GREY)
        except Exception:
            continue
    return looked_at


def describe(request: Request) -> DatasetInfo:
    """The facts of the dataset. UserError where it can't be had, or is none of images with classes."""
    loaded = _of(request)
    labels = _labels(loaded.train, loaded.label)
    if min(labels, default=-1) < 0:
        raise UserError(f"{request.name} has images without a class in its split train; choose another dataset")
    counts = Counter(labels)
    if lacking := [name for number, name in enumerate(loaded.classes) if not counts[number]]:
        raise UserError(f"{request.name} has no training images of the class {lacking[0]}; choose another dataset")
    looked_at = _looked_at(loaded)
    resolution = request.options.resolution or imagefiles.common_size(looked_at)
    grey = not any(content.colour for content in looked_at.values())
    channels = {"grey": 1, "colour": 3, None: 1 if grey else 3}[request.options.channels]
    test = None if loaded.test is None else len(loaded.test)
    return imagefiles.own_facts(counts, test, loaded.classes, request, request.name, request.name, channels, resolution)


def digest(request: Request) -> str:
    """A SHA-256 of the classes, and of the labels and image files of all splits, wherever these lie.

    All images are read for it. It is kept in the work folder by what the package knows the splits' content by, unless
    the dataset holds just the paths of its images: of changes in such files the package knows nothing.
    """
    loaded = _of(request)
    splits = [split for split in (loaded.train, loaded.test) if split is not None]
    known_by = " ".join(split._fingerprint for split in splits)
    kept_in = request.work_dir / f"hf-{hashlib.sha256(known_by.encode()).hexdigest()[:16]}.txt"
    with suppress(OSError, ValueError):
        kept = kept_in.read_text()
        if len(bytes.fromhex(kept)) == hashlib.sha256().digest_size:
            return kept
    found = _digest(loaded, splits)
    if all(isinstance(_file(split, loaded.image, 0), bytes) for split in splits if len(split)):
        keep(kept_in, found)
    return found


def _digest(loaded: Loaded, splits: list[Any]) -> str:
    total = hashlib.sha256(json.dumps(loaded.classes).encode())
    for split in splits:
        labels = _labels(split, loaded.label)
        total.update(json.dumps(labels).encode())
        for i in range(len(labels)):
            file = _file(split, loaded.image, i)
            data = file if isinstance(file, bytes) else Path(file).read_bytes()
            total.update(hashlib.sha256(data).digest())
    return total.hexdigest()


def load(request: Request) -> Source:
    """The images, by class."""
    import numpy as np

    from attcli.data.decoding import DecodedFiles

    loaded, info = _of(request), describe(request)

    def part(split: Any, name: str, index: list[int] | None = None) -> DecodedFiles:
        labels = np.array(_labels(split, loaded.label), np.int64)
        rows = np.arange(len(labels)) if index is None else np.array(index, np.int64)
        return DecodedFiles(
            lambda i: _file(split, loaded.image, int(rows[i])),
            lambda i: f"{name} image {rows[i]}",
            labels[rows],
            info.channels,
            info.resolution,
            request.options.fit,
        )

    if loaded.test is not None:
        return Source(part(loaded.train, "train"), part(loaded.test, "test"), loaded.classes)
    labels = _labels(loaded.train, loaded.label)
    tests = imagefiles.drawn_for_testing(labels, len(loaded.classes), request)
    kept = sorted(set(range(len(labels))) - set(tests))
    return Source(part(loaded.train, "train", kept), part(loaded.train, "train", tests), loaded.classes)
