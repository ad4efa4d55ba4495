"""What all datasets of image files share: their options, facts from a listing, the split, and the listing's memory."""

from collections import Counter
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from attcli.data.contents import Content
from attcli.data.listing import Labelled, Listing
from attcli.data.sources import DatasetInfo, Request, Source
from attcli.errors import UserError
from attcli.options import Section

RESOLUTION = Field(
    None, description="image files: their side in pixels after resizing; default: the dataset's, or that of all images"
)


class Options(Section):
    """How image files are read."""

    fit: Literal["squeeze", "crop", "pad"] = Field(
        "squeeze", description="image files that are not square: squeezed, cropped to the middle, or padded with black"
    )
    allow_unreadable: bool = Field(
        False, description="image files: leave out those that cannot be read, however many they are"
    )


_listings: dict[Request, Listing] = {}


def listing(request: Request, make: Callable[[Request], Listing]) -> Listing:
    """The listing that `make` makes for a request; made anew only when a folder has changed."""
    kept = _listings.get(request)
    if kept is None or kept.changed():
        kept = _listings[request] = make(request)
    return kept


def common_size(found: dict[str, Content]) -> int:
    """The side that all images have. UserError where they have several, or are not square."""
    sizes = Counter(content.pixels for content in found.values() if content.pixels)
    if len(sizes) == 1 and (size := next(iter(sizes)))[0] == size[1]:
        return size[0]
    if not sizes:
        raise UserError("none of the images can be read; name another folder, or mend them")
    shown = ", ".join(f"{width}x{height}" for (width, height), _ in sizes.most_common(3))
    what = f"{len(sizes)} sizes ({shown}, …)" if len(sizes) > 3 else f"the sizes {shown}"
    raise UserError(f"the images have {what}; say which side they get: --set prepare.resolution=64")


def facts(
    files: Listing, request: Request, name: str, title: str, channels: int, resolution: int, **others: object
) -> DatasetInfo:
    """The facts of a dataset of files."""
    counts = Counter(label for _, label in files.train)
    if files.test is None:
        tests = {label: _tested(count, request.options.test_share) for label, count in counts.items()}
        for label, count in counts.items():
            if tests[label] == count:
                raise UserError(
                    f"class {files.classes[label]} has one image, which leaves none to test on; add some, or put "
                    f"test images into test/"
                )
        counts.subtract(tests)
        test = sum(tests.values())
    else:
        test = len(files.test)
    return DatasetInfo(
        name,
        title,
        classes=len(files.classes),
        channels=channels,
        resolution=resolution,
        train=sum(counts.values()),
        smallest_class=min(counts.values()),
        test=test,
        seeded=files.test is None,
        **others,  # type: ignore[arg-type]
    )


def _tested(count: int, share: float) -> int:
    """How many of a class's images become test images: at least one."""
    return max(1, min(count - 1, round(count * share)))


def source(files: Listing, request: Request, info: DatasetInfo) -> Source:
    """The images of a listing; where it has no test images, a share of each class is drawn with the seed."""
    import numpy as np
    import torch

    from attcli import runtime
    from attcli.data.decoding import DecodedFiles
    from attcli.data.inputs import of_each_class

    def split(labelled: Labelled) -> DecodedFiles:
        labels = np.array([label for _, label in labelled], np.int64)
        paths = [path for path, _ in labelled]
        return DecodedFiles(files.root, paths, labels, info.channels, info.resolution, request.options.fit)

    classes = list(files.classes)
    if files.test is not None:
        return Source(split(files.train), split(files.test), classes)
    labels = torch.tensor([label for _, label in files.train])
    counts = [_tested(int(count), request.options.test_share) for count in labels.bincount(minlength=len(classes))]
    drawn = set(of_each_class(labels, counts, runtime.stream(request.seed, "test-share")).tolist())
    train = [labelled for i, labelled in enumerate(files.train) if i not in drawn]
    return Source(split(train), split([files.train[i] for i in sorted(drawn)]), classes)
