"""What all datasets of image files share: their options, facts from a listing, the split, and the listing's memory."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field, PositiveInt

from attcli.data.listing import Content, Labelled, Listing
from attcli.data.sources import DatasetInfo, Request, Source
from attcli.errors import UserError
from attcli.options import Section

RESOLUTION = Field(
    None,
    description="image files: side in pixels after resizing; default: the dataset's, or the size that all images have",
)


class Options(Section):
    """How image files are read."""

    fit: Literal["squeeze", "crop", "pad"] = Field(
        "squeeze", description="image files that are not square: squeeze both sides, crop the middle, or pad with black"
    )
    allow_unreadable: bool = Field(
        False, description="image files: leave out those that cannot be read, even if they are many"
    )


class OwnOptions(Options):
    """How datasets are read that are not known beforehand."""

    resolution: PositiveInt | None = RESOLUTION
    channels: Literal["grey", "colour"] | None = Field(
        None, description="folder and hf: grey or colour; default: grey if all images are grey"
    )
    test_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="folder and hf without test images: the share of each class that becomes test images",
    )


_listings: dict[Request, Listing] = {}


def listing(request: Request, make: Callable[[Request], Listing]) -> Listing:
    """The listing that `make` makes for a request; it is remembered until a folder changes, or `forget`."""
    kept = _listings.get(request)
    if kept is None or kept.changed():
        kept = _listings[request] = make(request)
    return kept


def forget() -> None:
    """Look at all files again when they are asked for next."""
    from attcli.data.sources import hf

    _listings.clear()
    hf._loaded.cache_clear()


def common_size(by_path: dict[str, Content]) -> int:
    """The side that all images have. UserError where they have several, or are not square."""
    sizes = Counter(content.pixels for content in by_path.values() if content.pixels)
    if len(sizes) == 1 and (size := next(iter(sizes)))[0] == size[1]:
        return size[0]
    if not sizes:
        raise UserError("none of the images can be read; name another folder, or fix them")
    shown = ", ".join(f"{width}x{height}" for (width, height), _ in sizes.most_common(3))
    what = f"{len(sizes)} sizes ({shown}, …)" if len(sizes) > 3 else f"the sizes {shown}"
    raise UserError(f"the images have {what}; say which side they get: --set prepare.resolution=64")


def facts(
    files: Listing, request: Request, name: str, title: str, channels: int, resolution: int, **others: object
) -> DatasetInfo:
    """The facts of a dataset of files."""
    train = Counter(label for _, label in files.train)
    test = None if files.test is None else len(files.test)
    return own_facts(train, test, files.classes, request, name, title, channels, resolution, **others)


def own_facts(
    train: Counter[int],
    test: int | None,
    classes: Sequence[str],
    request: Request,
    name: str,
    title: str,
    channels: int,
    resolution: int,
    **others: object,
) -> DatasetInfo:
    """The facts of a dataset with so many training images of each class; without test images a share becomes them."""
    counts = Counter(train)
    if seeded := test is None:
        for label, count in train.items():
            tests = _tested(count, request.options.test_share)
            if tests == count:
                raise UserError(
                    f"class {classes[label]} has one image, which leaves none to test on; add some, or put test images "
                    f"into a test split"
                )
            counts[label] -= tests
        test = sum(train.values()) - sum(counts.values())
    return DatasetInfo(
        name,
        title,
        classes=len(classes),
        channels=channels,
        resolution=resolution,
        train=sum(counts.values()),
        smallest_class=min(counts.values()),
        counts=tuple(counts[label] for label in range(len(classes))),
        test=test or 0,
        seeded=seeded,
        **others,  # type: ignore[arg-type]
    )


def _tested(count: int, share: float) -> int:
    """How many of a class's images become test images: at least one."""
    return max(1, min(count - 1, round(count * share)))


def drawn_for_testing(labels: Sequence[int], classes: int, request: Request) -> list[int]:
    """The indices of the images that become test images: a share of each class, drawn with the seed."""
    import torch

    from attcli import runtime
    from attcli.data.inputs import of_each_class

    by_class = torch.tensor(labels)
    counts = [_tested(int(count), request.options.test_share) for count in by_class.bincount(minlength=classes)]
    drawn = of_each_class(by_class, counts, runtime.stream(request.seed, "test-share"))
    return sorted(drawn.tolist())


def source(files: Listing, request: Request, info: DatasetInfo) -> Source:
    """The images of a listing; where it has no test images, a share of each class is drawn with the seed."""
    import numpy as np

    from attcli.data.decoding import DecodedFiles

    def split(labelled: Labelled) -> DecodedFiles:
        labels = np.array([label for _, label in labelled], np.int64)
        root = os.fspath(files.root)

        def file(i: int) -> str:
            return f"{root}/{labelled[i][0]}"

        size = info.channels, info.resolution, request.options.fit
        return DecodedFiles(file, lambda i: labelled[i][0], labels, *size)

    classes = list(files.classes)
    if files.test is not None:
        return Source(split(files.train), split(files.test), classes)
    tests = drawn_for_testing([label for _, label in files.train], len(classes), request)
    kept = sorted(set(range(len(files.train))) - set(tests))
    return Source(split([files.train[i] for i in kept]), split([files.train[i] for i in tests]), classes)
