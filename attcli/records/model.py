"""What a record of a run holds. A value that is not known is null, never a guess."""

from statistics import mean
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"
"""What the name of a record looks like, which is also the name of its file."""

Percent = Annotated[float, Field(ge=0, le=100)]
ROUNDING = 0.02
"""How far a mean may be from that of the accuracies beside it, in percent: old files round to two digits."""


class Part(BaseModel):
    """A part of a record: nothing else may stand in it, and no infinite number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Code(Part):
    """attcli as it was: its version, and the commits that the stages ran from (none where no checkout was known)."""

    version: str
    commits: list[str]


class Machine(Part):
    """What the distillation ran on; where nothing else is known, what the history says."""

    cpu: str | None = None
    cores: PositiveInt | None = None
    threads: PositiveInt | None = None
    device: str | None = None
    gpu: str | None = None
    steps: str | None = None
    """How the steps were executed, as the names of the step functions."""


class Time(Part):
    """What a stage took, in seconds, added up over its invocations."""

    cpu_s: NonNegativeFloat
    wall_s: NonNegativeFloat
    invocations: PositiveInt


class Times(Part):
    """What each stage took, as far as its work folder says it.

    A stage's time is that of all the work that is kept for its settings. `iterations_wall_s` is the sum of the seconds
    of all iterations, as the history has them.
    """

    prepare: Time | None = None
    buffer: Time | None = None
    distill: Time | None = None
    evaluate: Time | None = None
    iterations_wall_s: NonNegativeFloat | None = None


class Experts(Part):
    """The experts that were distilled from: how many, and over how many images all of them were trained."""

    experts: NonNegativeInt
    epochs: NonNegativeInt
    """Epochs of all experts together."""
    images_per_epoch: PositiveInt | None = None
    images: NonNegativeInt | None = None
    """Epochs times images per epoch."""


class Students(Part):
    """The students of all iterations: over how many images they were trained, and differentiated."""

    steps_per_iteration: PositiveInt
    batch: PositiveInt
    images_forward: NonNegativeInt
    """Iterations times steps times batch."""
    images_adjoint: NonNegativeInt | None = None
    """The steps up to the matched one, of all iterations, times the batch."""


class Size(Part):
    """The size of the set: images of a class, bytes of a class as they are kept, these as so many float32 images."""

    classes: PositiveInt
    images_per_class: PositiveInt
    bytes_per_class: NonNegativeFloat | None = None
    float32_ipc: NonNegativeFloat | None = None


class Normaliser(Part):
    """What test images have to go through before a network that was trained on the set can see them.

    `zca` and `contrast` have a matrix with a row and a column for each value of an image, `standardise` two numbers for
    each channel. `bytes` is the size of its arrays. A set whose file lacks them does not stand alone: it needs the
    dataset.h5 that it was made with.
    """

    kind: Literal["zca", "contrast", "standardise"]
    bytes: PositiveInt
    in_the_sets_file: bool


class Score(Part):
    """Accuracy in percent on the test images: the mean over networks, the sample deviation, each network apart."""

    mean: Percent
    sd: NonNegativeFloat | None
    n: PositiveInt
    accuracies: list[Percent] | None = None
    iteration: NonNegativeInt | None = None
    """The snapshot that was scored, where it is not the set itself."""

    @model_validator(mode="after")
    def _agrees(self) -> "Score":
        if self.accuracies is not None:
            if len(self.accuracies) != self.n:
                raise ValueError(f"{len(self.accuracies)} accuracies of {self.n} networks")
            if abs(mean(self.accuracies) - self.mean) > ROUNDING:
                raise ValueError(f"the mean is {self.mean}, that of the accuracies {mean(self.accuracies):.4f}")
        return self


class Scores(Part):
    """One architecture's scores by three rules, which are never mixed; each by `synthetic`, `ema` or a baseline.

    `last`: the set as it was at the end. `selected`: the snapshot that was best on the validation images, tested once.
    `largest`: the largest of the tests of all snapshots, so that test images decided, as in the literature.
    """

    last: dict[str, Score]
    selected: dict[str, Score] | None = None
    largest: dict[str, Score] | None = None


class Published(Part):
    """An accuracy of a publication, in percent: for what, how it was measured, and where it was read."""

    method: str
    dataset: str
    ipc: PositiveInt
    accuracy: Percent
    sd: NonNegativeFloat | None
    protocol: str
    paper: str
    source: str


class Record(Part):
    """A distillation with its scores."""

    form: Literal[1] = 1
    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    note: str = ""
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    """The day that the set was written, UTC."""
    dataset: str
    method: str
    parameterisation: str
    storage: str
    ipc: PositiveInt
    """Images per class that were asked for; a parameterisation makes more of them from as many numbers."""
    iterations: NonNegativeInt
    seed: NonNegativeInt
    set_sha256: str
    recipe: str | None
    """The recipe that the settings rest on."""
    changes: dict[str, Any]
    """The settings that differ from those of the recipe, by dotted name."""
    attcli: Code
    machine: Machine
    times: Times
    experts: Experts | None
    students: Students | None
    size: Size
    normaliser: Normaliser
    learned_lr: float
    protocol: dict[str, Any]
    """How the networks were trained and tested."""
    scores: dict[str, Scores]
    """By architecture."""
    published: list[Published]
    """What the run is compared with, at the same number of images per class: the method, and its parameterisation."""
