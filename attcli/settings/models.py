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
        description="number format of the computation: float64, float32, tf32 or bfloat16; with the last two, "
        "parameters and sums stay float32"
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

    dataset: str = Field(
        "cifar10", description="dataset by name; folder: your own images, which lie in runtime.data_dir"
    )
    normalise: Literal["zca", "contrast", "standardise", "literature"] = Field(
        "zca",
        description="how images become what networks see. standardise: by the mean and deviation of each channel; "
        "literature: by those that published codes use; zca: ZCA whitening; contrast: each image at mean 0 and length"
        " 1, then ZCA; default: the recipe's, or what suits the dataset",
    )
    zca_eps: PositiveFloat = Field(
        0.1,
        description="number that ZCA adds to the eigenvalues of the covariance; for contrast, as a multiple of their "
        "mean",
    )
    validation: NonNegativeInt = Field(
        0, description="how many training images, of all classes together, are set aside for validation"
    )
    limit_per_class: PositiveInt | None = Field(
        None, description="keep at most this many training images of each class; default: all"
    )
    seed: NonNegativeInt | None = Field(
        None,
        description="seed for drawing the splits and the images that limit_per_class keeps; default: the setting seed",
    )


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
        "auto",
        description="epochs per expert; auto: as many as distilling needs (the last start epoch plus "
        "distill.expert_epochs)",
    )
    imported: str | None = Field(
        None,
        pattern="^sha256:[0-9a-f]{16}$",
        description="imported experts to use, by their name, which is a hash of their files (attcli import says it)",
    )
    waypoints: Annotated[int, Field(ge=2, le=10_000)] | None = Field(
        None,
        description="compact experts: how many networks of each expert are kept (its waypoints); for each epoch, only"
        " its position between two of them is kept; default: the network of every epoch",
    )
    lr: PositiveFloat = Field(0.01, description="SGD learning rate")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD momentum")
    weight_decay: NonNegativeFloat = Field(0.0, description="SGD weight decay")
    batch: PositiveInt = Field(512, description="images per batch")
    augment: str = Field(
        DSA, description="augmentation (DSA): color, crop, cutout, flip, scale, rotate, joined by _; or none"
    )
    curriculum: Literal["none", "easy-first"] = Field(
        "none",
        description="which images experts are trained on in which epoch. none: all in every epoch; easy-first: at "
        "first the easy ones of each class, then all, and after many epochs all but the easiest (PAD)",
    )
    curriculum_start: float = Field(
        0.75, gt=0, le=1, description="easy-first: the share of each class's images that is used in the first epoch"
    )
    curriculum_growth: NonNegativeInt = Field(20, description="easy-first: the epoch from which on all images are used")
    difficulty: str = Field(
        "el2n",
        description="how hard each training image is, for buffer.curriculum easy-first and distill.init ranked. el2n,"
        " grand or forgetting: measured by networks that are trained for this; or the name of a file with a number "
        "for each training image, higher for harder",
    )
    difficulty_networks: Annotated[int, Field(ge=1, le=1000)] = Field(
        10, description="el2n, grand, forgetting: how many networks are trained to measure the difficulty"
    )
    difficulty_epochs: PositiveInt = Field(
        10, description="el2n, grand, forgetting: for how many epochs each of these networks is trained"
    )
    precision: Precision = "float32"
    seed: SeedOfTraining = None


@_options_last
class Distill(_with_options("objective", "parameterisation", "storage")):  # type: ignore[misc]
    """The method, and how the synthetic set is initialised and optimised."""

    method: str = Field("att", description="method, such as att, or several joined by +, such as att+datm")
    ipc: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1,
        description="images per class; more exactly, the size of the set: the bytes of this many float32 images per "
        "class",
    )
    iterations: Annotated[int, Field(ge=1, le=10**9)] = Field(
        6000, description="how many times the synthetic set is updated"
    )
    syn_steps: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        80, description="how many steps the student trains (N_S in papers); distill.select says which step is matched"
    )
    spans: Annotated[int, Field(ge=1, le=1024)] = Field(
        1,
        description="how many students an iteration trains, each with its own expert and start epoch; their gradients"
        " are averaged",
    )
    expert_epochs: PositiveInt = Field(
        4, description="how many epochs of the expert the student imitates (M in papers)"
    )
    min_start_epoch: NonNegativeInt = Field(0, description="the earliest start epoch that can be drawn")
    max_start_epoch: PositiveInt = Field(2, description="start epochs that are drawn lie below this (T+ in papers)")
    start_epochs: Literal["whole", "real"] = Field(
        "whole",
        description="start epochs are whole numbers, or real ones; between two epochs, the expert's parameters are "
        "interpolated",
    )
    window: Literal["fixed", "expanding"] = Field(
        "fixed",
        description="the range of start epochs. fixed: always the same; expanding: its end grows up to "
        "max_start_epoch (DATM)",
    )
    current_max_start_epoch: PositiveInt | None = Field(
        None, description="expanding window: at first, start epochs lie below this; default: all are min_start_epoch"
    )
    expansion_end: PositiveInt = Field(
        3000, description="expanding window: the iteration at which its end reaches max_start_epoch"
    )
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
        description="nearest step: to save time, the student's training ends after this many steps in a row that are "
        "farther from the expert than the nearest step so far; default: it takes all steps",
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
        None,
        description="file of a finished set or of a snapshot, from whose images, labels and learning rate distilling "
        "starts",
    )
    init: Literal["real", "noise", "correct", "ranked"] = Field(
        "real",
        description="what images start from. real: random real images; noise: random numbers; correct: real images "
        "that experts classify correctly; ranked: hard real images of each class, but not the very hardest (SelMatch)",
    )
    rank_offset: NonNegativeFloat = Field(
        0.5,
        description="ranked: how many of the hardest images of each class are passed over, as a multiple of the "
        "images per class",
    )
    distilled_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of each class's images that are distilled; the others (with ranked, the hardest) train "
        "students too, but never change",
    )
    label_epoch: NonNegativeInt | None = Field(
        None, description="the experts' epoch whose networks judge and label the initial images; default: the last"
    )
    max_loss: PositiveFloat | None = Field(
        None, description="reject updates whose matching loss is above this; default: none is rejected"
    )
    objective: str = Field(
        "trajectory",
        description="what is minimised. trajectory: the distance of a student from the expert; real-loss: the loss on"
        " real images of students that were trained on the set; label-distillation: the loss on real images of one "
        "network that is trained along with the set; gradient: the distance between the gradients of the set and "
        "those of real images; distribution: the distance between their mean features; cafe: the same for the mean "
        "features of several layers",
    )
    parameterisation: str = Field(
        "pixels", description="what is learned: pixels, multiformation (small images that are enlarged) or frequency"
    )
    storage: str = Field(
        "float32",
        description="how each learned number is kept in the file: float32, float16, bfloat16, uint8, codes or float64",
    )
    optimiser: Literal["sgd", "adam"] = Field(
        "sgd", description="optimiser of the images, the labels and the student's learning rate: sgd or adam"
    )
    halve_every: PositiveInt | None = Field(
        None,
        description="halve the learning rates of the images, the labels and the student's learning rate each time "
        "after this many iterations; default: never",
    )
    lr_img: NonNegativeFloat = Field(100.0, description="learning rate of the images")
    momentum_img: float = Field(0.5, ge=0, lt=1, description="momentum of the images")
    lr_init: PositiveFloat = Field(
        0.01,
        description="the student's learning rate at the start; it is learned too, except by the objectives gradient, "
        "distribution and cafe",
    )
    lr_lr: NonNegativeFloat = Field(1e-7, description="learning rate of the student's learning rate")
    momentum_lr: float = Field(0.5, ge=0, lt=1, description="momentum of the student's learning rate")
    min_lr: PositiveFloat = Field(1e-6, description="smallest value of the student's learning rate")
    batch_syn: PositiveInt | None = Field(
        None, description="synthetic images in the batch of a student's step; default: all"
    )
    augment: str = Field(DSA, description="augmentation (DSA) while the student trains, written as for buffer.augment")
    ema_decay: float = Field(0.9999, ge=0, lt=1, description="decay of the images' moving average, per iteration")
    precision: Precision = "float32"
    save_every: PositiveInt = Field(100, description="iterations from one snapshot to the next")
    max_bad_updates: PositiveInt = Field(
        10, description="stop with an error after this many updates in a row that are NaN or infinite"
    )
    seed: NonNegativeInt | None = Field(
        None, description="seed of all random draws of distilling; default: the setting seed"
    )


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
        description="how networks are trained and tested. exact: for evaluate.epochs passes; released: for one more, "
        "with a reset of the momentum, as released codes do; adam: by Adam at a constant learning rate; replay: by "
        "the very steps that the set was distilled for (DD); mtt, datm, idc, selmatch, ncfm: as in these papers; "
        "honest: for 1000 passes; default: the set's own, or exact",
    )
    batch: PositiveInt | None = Field(None, description="images per batch; default: the set's own, or 256")
    lr: PositiveFloat | None = Field(None, description="learning rate on the set; default: the one learned with it")
    momentum: float | None = Field(None, ge=0, lt=1, description="SGD momentum; default: the set's own, or 0.9")
    weight_decay: NonNegativeFloat | None = Field(None, description="SGD weight decay; default: the set's own, or 5e-4")
    augment: str | None = Field(
        None,
        description="augmentation (DSA), written as for buffer.augment; default: the one that the set was distilled "
        "with",
    )
    precision: Precision = "float32"
    random_lrs: tuple[PositiveFloat, ...] = Field(
        (0.01, 0.03),
        description="learning rates that are tried for random or selected real images, besides the one learned with "
        "the set",
    )
    baselines: Annotated[Names, AfterValidator(_each_once)] | None = Field(
        None,
        description="real images to compare with: random, herding, k-center, forgetting (as many as ipc says), "
        "random-kept, random-webp (in as many bytes as the set), whole (all of them); the list replaces the "
        "default: random, and for a set that is not float32 pixels also random-kept and random-webp",
    )
    whole_epochs: PositiveInt = Field(
        200, description="passes over all training images, for the baseline whole and for networks that select images"
    )
    whole_lr: PositiveFloat = Field(0.01, description="learning rate on all training images")
    whole_arch: str | None = Field(
        None,
        description="architecture of networks that are trained on all images to select some; default: the set's own",
    )
    forgetting_runs: Annotated[int, Field(ge=1, le=1000)] = Field(
        1,
        description="forgetting: how many networks are trained to count how often each image is forgotten; its "
        "authors use 5",
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
    deterministic: bool = Field(True, description="use only kernels that give the same result each time")
    execution: Literal["auto", "eager", "graph", "compiled"] = Field(
        "auto",
        description="how steps run: eager (plain PyTorch), graph (CUDA graphs) or compiled; auto: compiled where that"
        " saves time in all, else CUDA graphs on a GPU",
    )
    micro_batch: PositiveInt | None = Field(
        None,
        description="how many images a step computes at a time; fewer need less memory; default: depends on the device",
    )
    data_dir: Path = Field(Path("data"), description="folder that datasets are read from, and downloaded to")
    artifacts: Path = Field(Path("artifacts"), description="where results are written")
    work_dir: Path = Field(Path(".attcli"), description="where unfinished and reusable work is kept")
    trackers: Annotated[Names, AfterValidator(_each_once)] = Field(
        (),
        description="trackers to which losses and scores are sent as well: tensorboard, dvclive, wandb, mlflow; "
        "default: none",
    )
    verbosity: Literal["quiet", "normal", "debug"] = Field(
        "normal", description="how much is logged: quiet, normal or debug"
    )


class Settings(Section):
    """All settings. `seed` is the default of each stage's own seed."""

    seed: NonNegativeInt = Field(0, description="seed of every stage that has none of its own")
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
