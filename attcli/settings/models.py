"""The settings of every stage. The defaults are those of ATT's paper on CIFAR-10 where no recipe says otherwise.

Content settings decide what is computed; `runtime` decides only where and how it is executed and kept.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    create_model,
)

from attcli import registry
from attcli.options import DSA, Request, Section


def _listed(value: Any) -> Any:
    """`a,b` means the list of a and b, as on the command line."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names without repetitions, in their order."""
    return tuple(dict.fromkeys(names))


Precision = Annotated[
    Literal["float64", "float32", "tf32", "bfloat16"],
    Field(
        description="computed in float64, float32, tf32 or bfloat16; the last two keep parameters and sums in float32"
    ),
]
SeedOfTraining = Annotated[
    NonNegativeInt | None,
    Field(description="seed of initial weights, order of images and augmentation; default: the setting seed"),
]
S = TypeVar("S", bound=Section)
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


def _with_options(*kinds: str) -> Any:
    """A section that holds the options which the choices of these kinds declare beside themselves."""
    fields = {name: (field.annotation, field) for kind in kinds for name, field in registry.all_options(kind).items()}
    return create_model("Options", __base__=Section, **fields)  # type: ignore[call-overload]


def _options_last(section: type[S]) -> type[S]:
    """The section with its own settings before the options of choices, in the order in which both are listed."""
    fields = section.__pydantic_fields__
    options = [name for name in fields if name not in section.__annotations__]
    section.__pydantic_fields__ = {name: fields.pop(name) for name in [*section.__annotations__, *options]}
    section.model_rebuild(force=True)
    return section


@_options_last
class Prepare(_with_options("dataset")):  # type: ignore[misc]
    """Which images, and how they are normalised."""

    dataset: str = Field("cifar10", description="dataset by name; folder: images of your own in runtime.data_dir")
    normalise: Literal["zca", "contrast", "standardise", "literature"] = Field(
        "zca",
        description="zca: ZCA whitening; contrast: each image at mean 0 and length 1, then ZCA; standardise: the "
        "images' own mean and deviation; literature: those that the literature's codes use; default: the recipe's, or "
        "what suits the dataset",
    )
    zca_eps: PositiveFloat = Field(
        0.1,
        description="number that ZCA adds to the covariance's eigenvalues; for contrast, a part of their mean",
    )
    validation: NonNegativeInt = Field(0, description="training images of all classes set aside for validation")
    limit_per_class: PositiveInt | None = Field(None, description="keep only so many training images of each class")
    seed: NonNegativeInt | None = Field(None, description="seed of the splits and the limit; default: the setting seed")


@_options_last
class Network(_with_options("network")):  # type: ignore[misc]
    """The network that experts and students share."""

    arch: str = Field("convnet", description="architecture by name, such as convnet (docs/networks.md lists them)")


@_options_last
class Buffer(_with_options("trainer")):  # type: ignore[misc]
    """How the experts are trained, and how many of them for how long."""

    trainer: str = Field("sgd", description="how an expert is trained: sgd, or ftd for flat trajectories")
    experts: Annotated[int, Field(ge=1, le=100_000)] = Field(100, description="number of experts")
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] = Field(
        "auto", description="epochs per expert; auto: as many as matching reads"
    )
    imported: str | None = Field(None, pattern="^sha256:[0-9a-f]{16}$", description="imported experts, by their name")
    waypoints: Annotated[int, Field(ge=2, le=10_000)] | None = Field(
        None,
        description="compact experts: so many networks of each are kept, and how far it was on the way between them "
        "after every epoch; default: a network per epoch",
    )
    lr: PositiveFloat = Field(0.01, description="SGD learning rate")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD momentum")
    weight_decay: NonNegativeFloat = Field(0.0, description="SGD weight decay")
    batch: PositiveInt = Field(512, description="images per batch")
    augment: str = Field(DSA, description="DSA: color, crop, cutout, flip, scale, rotate, joined by _; or none")
    curriculum: Literal["none", "easy-first"] = Field(
        "none",
        description="which images experts meet when. none: all in every epoch; easy-first: at first the easy ones of "
        "each class, after many epochs no longer the easiest (PAD)",
    )
    curriculum_start: float = Field(
        0.75, gt=0, le=1, description="easy-first: the share of each class's images that the first epoch takes"
    )
    curriculum_growth: NonNegativeInt = Field(20, description="easy-first: the epoch from which on all images are met")
    difficulty: str = Field(
        "el2n",
        description="how hard training images are, for easy-first and distill.init ranked: el2n, grand or forgetting, "
        "by networks that are trained for it; or a file with a number per training image, higher for harder",
    )
    difficulty_networks: Annotated[int, Field(ge=1, le=1000)] = Field(
        10, description="el2n, grand, forgetting: how many networks are trained to find it out"
    )
    difficulty_epochs: PositiveInt = Field(10, description="el2n, grand, forgetting: epochs of each of them")
    precision: Precision = "float32"
    seed: SeedOfTraining = None


@_options_last
class Distill(_with_options("objective", "parameterisation", "storage")):  # type: ignore[misc]
    """The method, and how the synthetic set is initialised and optimised."""

    method: str = Field("att", description="method, such as att, or several joined by +, as att+datm")
    ipc: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1,
        description="size of the set: the bytes of so many float32 images per class; float32 pixels: so many images",
    )
    iterations: Annotated[int, Field(ge=1, le=10**9)] = Field(6000, description="updates of the synthetic set")
    syn_steps: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        80, description="how many steps the student trains (N_S in the papers); select says which one is matched"
    )
    spans: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="how many stretches of experts an iteration matches; their gradients are averaged"
    )
    expert_epochs: PositiveInt = Field(4, description="epochs of the expert that the student imitates (M in papers)")
    min_start_epoch: NonNegativeInt = Field(0, description="start epochs are drawn from this one on")
    max_start_epoch: PositiveInt = Field(2, description="start epochs are drawn below this (T+ in the papers)")
    start_epochs: Literal["whole", "real"] = Field(
        "whole",
        description="start epochs are whole, or real: between two epochs the expert is on the straight line",
    )
    window: Literal["fixed", "expanding"] = Field(
        "fixed",
        description="the range of start epochs. fixed: always the same; expanding: it grows up to max_start_epoch",
    )
    current_max_start_epoch: PositiveInt | None = Field(
        None, description="expanding window: at first, start epochs are drawn below this; default: only min_start_epoch"
    )
    expansion_end: PositiveInt = Field(3000, description="expanding window: the iteration at which it has grown")
    engine: Literal["adjoint", "unroll", "tesla"] = Field(
        "adjoint",
        description="how the gradient is computed. adjoint: exactly, with the graph of one step in memory; unroll: "
        "exactly, with the graph of all steps in memory; tesla: by TESLA's approximation",
    )
    select: Literal["last", "nearest"] = Field(
        "nearest",
        description="which step of the student is matched: the last, or the one that is nearest to the expert",
    )
    select_metric: Literal["l1", "l2"] = Field(
        "l1", description="how the nearest step is measured: l1, as in ATT's released code, or l2, as in its paper"
    )
    patience: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None,
        description="nearest step: the student's training ends after so many steps in a row that are farther away than "
        "the nearest so far, which saves time; default: it takes all steps",
    )
    labels: Literal["hard", "learned", "teacher"] = Field(
        "hard",
        description="hard: class numbers; learned: logits that are learned; teacher: the logits of the expert that is "
        "matched, computed anew in each iteration",
    )
    lr_labels: NonNegativeFloat = Field(2.0, description="learned labels: learning rate of the logits")
    momentum_labels: float = Field(0.9, ge=0, lt=1, description="learned labels: momentum of the logits")
    label_storage: Literal["float32", "float16", "bfloat16", "uint8"] = Field(
        "float32", description="learned labels: how each logit is kept: float32, float16, bfloat16 or uint8"
    )
    label_init: Literal["experts", "classes", "uniform"] = Field(
        "experts",
        description="what learned labels start from. experts: the experts' logits; classes: 90 % for an image's own "
        "class; uniform: the same for all classes",
    )
    start_from: Path | None = Field(
        None, description="file of a finished set or snapshot that the images, labels and learning rate start from"
    )
    init: Literal["real", "noise", "correct", "ranked"] = Field(
        "real",
        description="what images start from. real: random real images; noise: random numbers; correct: real images "
        "that experts classify correctly; ranked: each class's hardest images from a rank on (SelMatch)",
    )
    rank_offset: NonNegativeFloat = Field(
        0.5, description="ranked: how many of the hardest images are passed over, in units of the images per class"
    )
    distilled_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of each class's images that are distilled; the others, the hardest for ranked, train "
        "students too, and stay as they were",
    )
    label_epoch: NonNegativeInt | None = Field(
        None, description="epoch of the experts that judge and label initial images; default: their last"
    )
    max_loss: PositiveFloat | None = Field(None, description="an update whose matching loss is above this is rejected")
    objective: str = Field(
        "trajectory",
        description="what is minimised. trajectory: how far a student ends from the expert; real-loss: the loss of "
        "trained students on real images; label-distillation: that of a network which learns along with the set; "
        "gradient: how far gradients are from those of real images; distribution: how far mean features are from "
        "theirs; cafe: how far those of several layers are",
    )
    parameterisation: str = Field(
        "pixels", description="what is learned: pixels, multiformation (small images that are enlarged) or frequency"
    )
    storage: str = Field(
        "float32", description="how each number is kept: float32, float16, bfloat16, uint8, codes or float64"
    )
    optimiser: Literal["sgd", "adam"] = Field("sgd", description="what updates all that is learned: sgd or adam")
    halve_every: PositiveInt | None = Field(
        None, description="after every so many iterations all learning rates of what is learned are halved"
    )
    lr_img: NonNegativeFloat = Field(100.0, description="learning rate of the images")
    momentum_img: float = Field(0.5, ge=0, lt=1, description="momentum of the images")
    lr_init: PositiveFloat = Field(0.01, description="the student's initial learning rate; it is learned too")
    lr_lr: NonNegativeFloat = Field(1e-7, description="learning rate for the student's learning rate")
    momentum_lr: float = Field(0.5, ge=0, lt=1, description="momentum of the student's learning rate")
    min_lr: PositiveFloat = Field(1e-6, description="the student's learning rate is kept above this")
    batch_syn: PositiveInt | None = Field(None, description="synthetic images in a step of the student; default: all")
    augment: str = Field(DSA, description="DSA in the student's training, written as for buffer.augment")
    ema_decay: float = Field(0.9999, ge=0, lt=1, description="decay of the images' moving average")
    precision: Precision = "float32"
    save_every: PositiveInt = Field(100, description="iterations from one snapshot to the next")
    max_bad_updates: PositiveInt = Field(10, description="give up after so many updates in a row that are not finite")
    seed: NonNegativeInt | None = Field(None, description="seed of all its random draws; default: the setting seed")


class Evaluate(Section):
    """How a set is scored: networks trained on it from scratch, tested on real images."""

    archs: Names = Field(
        ("convnet",),
        min_length=1,
        description="architectures to train; papers: those that papers compare; all: all but timm's",
    )
    repeats: Annotated[int, Field(ge=1, le=10_000)] = Field(5, description="networks of each architecture")
    epochs: PositiveInt | None = Field(None, description="passes over the set; default: the set's own, or 1000")
    protocol: (
        Literal["exact", "released", "adam", "replay", "mtt", "datm", "idc", "selmatch", "ncfm", "honest"] | None
    ) = Field(
        None,
        description="how networks are trained and tested. exact: epochs passes; released: one more and an optimiser "
        "reset; adam: by Adam at a constant rate; replay: a set's own steps; mtt, datm, idc, selmatch, ncfm: as these "
        "papers do; honest: 1000 passes; default: the set's own, or exact",
    )
    batch: PositiveInt | None = Field(None, description="images per batch; default: the set's own, or 256")
    lr: PositiveFloat | None = Field(None, description="learning rate on the set; default: the one learned with it")
    momentum: float | None = Field(None, ge=0, lt=1, description="SGD momentum; default: the set's own, or 0.9")
    weight_decay: NonNegativeFloat | None = Field(None, description="SGD weight decay; default: the set's own, or 5e-4")
    augment: str | None = Field(None, description="DSA, as buffer.augment; default: as in the set's distillation")
    precision: Precision = "float32"
    random_lrs: tuple[PositiveFloat, ...] = Field(
        (0.01, 0.03), description="learning rates tried for random or selected images, beside the learned one"
    )
    baselines: Annotated[Names, AfterValidator(_each_once)] | None = Field(
        None,
        description="real images to compare with: random, herding, k-center, forgetting (as many as ipc says), "
        "random-kept, random-webp (in as many bytes as the set), whole (all of them); the list replaces the "
        "default: random, and for a set that is not float32 pixels also random-kept and random-webp",
    )
    whole_epochs: PositiveInt = Field(
        200, description="passes over all training images, for whole and for the networks that images are selected by"
    )
    whole_lr: PositiveFloat = Field(0.01, description="learning rate on all training images")
    whole_arch: str | None = Field(
        None, description="network that images are selected by, trained on all of them; default: the set's own"
    )
    forgetting_runs: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="forgetting: on how many trainings on all images it is counted; its authors use 5"
    )
    seed: SeedOfTraining = None


class Runtime(Section):
    """Where and how it runs; none of it changes what is computed. The only settings that ATTCLI_* variables reach."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="CPU threads; auto: one for small steps, all cores for others"
    )
    workers: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="processes on this machine that share the work of buffer, distill and evaluate"
    )
    deterministic: bool = Field(True, description="reproducible kernels only")
    execution: Literal["auto", "eager", "graph", "compiled"] = Field(
        "auto",
        description="how steps run: eager, graph (CUDA graphs) or compiled; auto: compiled where that pays back, else "
        "CUDA graphs on a GPU",
    )
    micro_batch: PositiveInt | None = Field(None, description="images a step takes at a time; default: by device")
    data_dir: Path = Field(Path("data"), description="folder where datasets are stored, or downloaded to")
    artifacts: Path = Field(Path("artifacts"), description="where results are written")
    work_dir: Path = Field(Path(".attcli"), description="where unfinished and reusable work is kept")
    trackers: Annotated[Names, AfterValidator(_each_once)] = Field(
        (), description="where numbers are sent, too: tensorboard, dvclive, wandb, mlflow; default: nowhere"
    )
    verbosity: Literal["quiet", "normal", "debug"] = Field("normal", description="log: quiet, normal or debug")


class Settings(Section):
    """All settings. `seed` is the default of each stage's own seed."""

    seed: NonNegativeInt = Field(0, description="default of every stage's seed")
    prepare: Prepare = Prepare.model_construct()
    network: Network = Network.model_construct()
    buffer: Buffer = Buffer.model_construct()
    distill: Distill = Distill.model_construct()
    evaluate: Evaluate = Evaluate.model_construct()
    runtime: Runtime = Runtime.model_construct()

    def seed_of(self, stage: str) -> int:
        """The seed of a stage: its own, or the common one."""
        own: int | None = getattr(self, stage).seed
        return self.seed if own is None else own

    @property
    def images(self) -> Request:
        """What is asked of the dataset's source."""
        where = self.runtime
        return Request(self.prepare.dataset, where.data_dir, self.prepare, self.seed_of("prepare"), where.work_dir)

    @property
    def prepared(self) -> Path:
        """Where the prepared dataset lies among the results."""
        return self.runtime.artifacts / "dataset.h5"

    @property
    def matched_epochs(self) -> int:
        """The epochs of an expert that matching can read: the last start epoch plus the matched span."""
        last = self.distill.max_start_epoch - (self.distill.start_epochs == "whole")
        return last + self.distill.expert_epochs

    @property
    def epochs(self) -> int:
        """The epochs for which an expert is trained."""
        return self.matched_epochs if self.buffer.epochs == "auto" else self.buffer.epochs

    @property
    def label_epoch(self) -> int | None:
        """The epoch of the experts that judges and labels initial images; none where nothing asks for it."""
        labelled = self.distill.labels == "teacher" or (
            self.distill.labels == "learned" and self.distill.label_init == "experts"
        )
        if self.distill.init != "correct" and not labelled:
            return None
        return self.epochs if self.distill.label_epoch is None else self.distill.label_epoch

    @property
    def reads_experts(self) -> bool:
        """Whether distilling reads experts: for its objective, or to judge and label the initial images."""
        return self.label_epoch is not None or self._objective_says("reads_experts", default=True)

    @property
    def has_rates(self) -> bool:
        """Whether each of the student's steps has a learning rate of its own."""
        return self._objective_says("has_rates", default=False)

    @property
    def remembers(self) -> bool:
        """Whether the objective remembers something from one iteration to the next, such as a network that it trains.

        It then sees one span in each iteration.
        """
        return self._objective_says("remembers", default=False)

    def _objective_says(self, question: str, *, default: bool) -> bool:
        return bool(registry.answer("objective", self.distill.objective, question, default, self.distill))

    @property
    def read_epochs(self) -> int:
        """The epochs of an expert that distilling reads: those it matches, and the one that judges initial images."""
        return max(self.matched_epochs, self.label_epoch or 0)


CONTENT = ("seed", "prepare", "network", "buffer", "distill", "evaluate")
