"""Datasets of the Hugging Face Hub, as `hf:owner/name`, through the package `datasets`; or of a folder, as `hf:PATH`.

The package looks into its cache first, and takes only what is there when the Hub can't be reached.
"""

import hashlib
import io
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

from attcli.data import imagefiles
from attcli.data.contents import GREY
from attcli.data.listing import Content
from attcli.data.sources import DatasetInfo, Request, Source
from attcli.errors import UserError

INFO = (DatasetInfo("hf", "a dataset of the Hugging Face Hub", 0, 3, 0, 0, 0, 0),)

TEST_SPLITS = ("test", "validation", "val", "valid")

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
    """The dataset `hf:name`. UserError where it can't be had, or is none of images with classes."""
    if not name:
        raise UserError("hf names no dataset; write --dataset hf:owner/name")
    try:
        import datasets
    except ImportError:
        raise UserError("hf: needs the package datasets, which is missing; run pip install 'attcli[hf]'") from None
    try:
        splits = datasets.load_dataset(name)
    except Exception as error:  # the package raises errors of many others
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
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
    test = next((split for split in TEST_SPLITS if split in splits), None)
    encoded = {key: split.cast_column(image, datasets.Image(decode=False)) for key, split in splits.items()}
    return Loaded(encoded["train"], encoded[test] if test else None, image, label, list(features[label].names))


def _of(request: Request) -> Loaded:
    return _loaded(request.name.partition(":")[2])


def _labels(split: Any, label: str) -> list[int]:
    labels: list[int] = list(split.select_columns(label)[:][label])
    return labels


def _file(split: Any, image: str, index: int) -> str | bytes:
    """An image's bytes, or its path where the dataset holds only that."""
    value = split[index][image]
    content: str | bytes = value["bytes"] if value["bytes"] is not None else value["path"]
    return content


def _looked_at(loaded: Loaded) -> dict[str, Content]:
    """Size and colour of the first training images."""
    from PIL import Image

    looked_at = {}
    for i in range(min(LOOKED_AT, len(loaded.train))):
        try:
            file = _file(loaded.train, loaded.image, i)
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
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
    """A SHA-256 of what the package knows the splits' content by."""
    loaded = _of(request)
    known_by = [split._fingerprint for split in (loaded.train, loaded.test) if split is not None]
    return hashlib.sha256(" ".join(known_by).encode()).hexdigest()


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
