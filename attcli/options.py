"""What choices declare of themselves: options, and the facts of a dataset. Free of torch.

A choice (a network, a trainer, …) that has options declares them beside itself, as `class Options(Section)` in its
module; the settings' section takes their fields in.
"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Settings by name; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class DatasetInfo:
    """The facts of a dataset: its training set's classes, sizes, and shape of its images (channels, side, side).

    `literature` is the mean and the deviation of each channel that published experiments standardise it with.
    `readable` says whether its images can be read yet.
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
    readable: bool = True
