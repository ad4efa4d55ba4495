"""What choices declare of themselves: options, the facts of a dataset, the effort of an objective. Free of torch.

A choice (a network, a trainer, …) that has options declares them beside itself, as `class Options(Section)` in its
module; the settings' section takes their fields in.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Settings by name; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


VARIANTS = ("synthetic", "ema")
"""The images of a set: as they were last, and their moving average over the iterations."""

DSA = "color_crop_cutout_flip_scale_rotate"
"""All operations of the augmentation that the literature trains with."""

WHITENING = ("zca", "contrast")
"""What `prepare.normalise` offers that needs a matrix."""

LARGEST_ZCA = 12_288
"""Values of the largest images that ZCA whitens: 64 x 64 in colour, with a matrix of 1.2 GB (19 GB at 128 x 128)."""


def share_of(share: float, count: int) -> int:
    """How many whole things a share of `count` is, rounded down: 29 of 100 for 0.29, which no float is exactly."""
    return int(share * count + 1e-9)


def listed(value: Any) -> Any:
    """`a,b` means the list of a and b, as on the command line."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


@dataclass(frozen=True)
class DatasetInfo:
    """The facts of a dataset: its training set's classes, sizes, and shape of its images (channels, side, side).

    `literature` is the mean and the deviation of each channel that published experiments standardise it with. `seeded`
    says that its split into training and test images is drawn with the seed. `normalise` is the value of
    `prepare.normalise` where neither the user nor a recipe has one. `download` is how many bytes are downloaded where
    the images are missing: 0 for those that come with attcli, None for those that everybody has to get themselves.
    `counts` are the training images of each class, where they are known.
    """

    name: str
    title: str
    classes: int
    channels: int
    resolution: int
    train: int
    smallest_class: int
    test: int
    value_scale: float = 1 / 255
    literature: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    seeded: bool = False
    normalise: str = "standardise"
    download: int | None = None
    counts: tuple[int, ...] = ()

    def limited(self, limit: int | None) -> int:
        """The training images, with at most `limit` of each class; at least so many where the counts are not known."""
        if limit is None:
            return self.train
        counts = self.counts or (self.smallest_class,) * self.classes
        return min(self.train, sum(min(count, limit) for count in counts))

    @property
    def values(self) -> int:
        """The numbers of one image."""
        return self.channels * self.resolution**2


@dataclass(frozen=True)
class Effort:
    """What an iteration of an objective takes, for estimates of time and memory.

    images: how many go through a step's gradient g and its derivatives h; one of which only g is taken counts a
    quarter. batch: how many a step takes together. vectors: how many vectors of all the network's parameters are held.
    real: whether all training images are held, too.
    """

    images: float
    batch: int
    vectors: int
    real: bool = False


@dataclass(frozen=True)
class Request:
    """Which images are asked for: by the dataset's name, below a folder, with the options of `prepare`.

    `seed` is the one that a split into training and test images is drawn with; `work_dir` is where a source may keep
    what it found out about files.
    """

    name: str
    data_dir: Path
    options: Any
    seed: int
    work_dir: Path
