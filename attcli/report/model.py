"""What a report shows, as plain data. A part that is not known is null or empty, and `missing` says why."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from attcli.records.model import (
    Code,
    Experts,
    Machine,
    Normaliser,
    Published,
    Scores,
    Size,
    Times,
)

Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=2**26)]
"""Bytes of a PNG as text; nothing else may stand there, as it goes into the page as it is."""

Numbers = list[float | None]


def _day(text: str) -> str:
    """ValueError for a day that no calendar has."""
    date.fromisoformat(text)
    return text


class Part(BaseModel):
    """A part of a report: nothing else may stand in it, and no infinite number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class About(Part):
    """What the set is."""

    dataset: str
    method: str
    objective: str = "trajectory"
    parameterisation: str
    storage: str
    ipc: PositiveInt
    iterations: NonNegativeInt
    planned: PositiveInt | None
    """The iterations that the recipe has, or that were asked for here; None where neither is known."""
    seed: NonNegativeInt
    arch: str
    channels: PositiveInt
    side: PositiveInt
    classes: Annotated[list[str], Field(min_length=1, max_length=100_000)]
    learned_lr: float | None
    sha256: str
    date: Annotated[str, Field(pattern=r"^\d{4}-[01]\d-[0-3]\d$"), AfterValidator(_day)]
    """The day that the set was written, UTC."""


class Pictures(Part):
    """The images as a person sees them: by variant (`synthetic`, `ema`) and class, each as the base64 of a PNG.

    Of `per_class` images per class only the first may be there, so that the page does not get too large.
    """

    variants: dict[str, Annotated[list[Annotated[list[Base64], Field(min_length=1)]], Field(min_length=1)]]
    per_class: PositiveInt
    side: PositiveInt
    """Pixels of a side, which are fewer than those of the set where `shrunk` is more than 1."""
    shrunk: PositiveInt = 1
    as_networks_see_them: bool = False
    """Whether the normaliser is missing, so that network inputs are shown instead, stretched to all shades."""
    labels: list[list[str]] | None = None
    """For learned labels, by class and image: the likeliest classes, in words."""
    own_share: float | None = None
    """For learned labels: how much of its label an image's own class has, in percent, on average."""


class Course(Part):
    """A number over the iterations, in stretches of equal length: the smallest, the mean and the largest of each.

    Null where no number of the stretch is finite.
    """

    low: Numbers
    mean: Numbers
    high: Numbers


class History(Part):
    """What happened over the iterations, from 0."""

    iterations: PositiveInt
    """How many the history tells of."""
    stretch: PositiveInt
    """Iterations of a stretch; the last one may be shorter."""
    first: Annotated[list[NonNegativeInt], Field(min_length=1)]
    """The first iteration of every stretch."""
    loss: Course
    step: Course | None
    """None where no step of the student is chosen to be matched."""
    lr: Course
    steps: PositiveInt | None
    """Steps of a student, of which one is matched."""
    not_accepted: NonNegativeInt
    """Iterations whose update was rejected or skipped."""
    seconds: NonNegativeFloat | None
    """The median time of an iteration."""

    @model_validator(mode="after")
    def _has_a_number_for_each_stretch(self) -> Self:
        courses = [course for course in (self.loss, self.step, self.lr) if course is not None]
        lengths = {len(numbers) for course in courses for numbers in (course.low, course.mean, course.high)}
        if lengths != {len(self.first)}:
            raise ValueError("there is not a number for each stretch")
        return self


class Setting(Part):
    """A setting of the run: its value, where that came from, and what the recipe cites for it."""

    name: str
    value: Any
    origin: str
    says: str = ""
    """What the setting is."""
    source: str = ""
    doubt: str = ""
    usual: Any = None
    """What the recipe, the method or the defaults have instead, where the run `differs`."""
    differs: bool = False


class RealImages(Part):
    """The training images that were distilled: how many, and their bytes with one byte for each value."""

    images: PositiveInt
    bytes: PositiveInt


class Facts(Part):
    """All that a report of one run shows.

    A new field has a default, so that reports of older versions can still be compared; `form` is raised when an old
    field comes to mean something else.
    """

    form: Literal[1] = 1
    name: str
    """What the run is called among others: its folder."""
    about: About
    size: Size | None
    file_bytes: NonNegativeInt
    normaliser: Normaliser
    real: RealImages | None
    pictures: Pictures | None
    history: History | None
    scores: dict[str, Scores]
    """By architecture; empty without scores."""
    per_class: dict[str, dict[str, list[float | None]]]
    """By architecture and what was trained on: the accuracy on each class, in percent."""
    protocol: dict[str, Any]
    published: list[Published]
    recipe: str | None
    settings: list[Setting]
    times: Times
    experts: Experts | None
    code: Code
    machine: Machine
    commands: list[str]
    missing: list[str]
    """What is not there, a sentence each."""

    @model_validator(mode="after")
    def _is_of_one_set(self) -> Self:
        if any(not scores.last for scores in self.scores.values()):
            raise ValueError("a network's scores are empty")
        if self.pictures and any(len(rows) != len(self.about.classes) for rows in self.pictures.variants.values()):
            raise ValueError("there are not pictures of each class")
        return self
