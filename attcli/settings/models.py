"""The settings of every stage. The defaults are those of ATT's paper on CIFAR-10 where no recipe says otherwise.

Content settings decide what is computed; `runtime` decides only where and how it is executed and kept.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from attcli import registry
from attcli.options import DSA, Request, Section
from attcli.settings.distill import Distill
from attcli.settings.sections import Names, Precision, SeedOfTraining, each_once, options_last, or_none, with_options


@options_last
class Prepare(with_options("dataset")):  # type: ignore[misc]
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


@options_last
class Network(with_options("network")):  # type: ignore[misc]
    """The network that experts and students share."""

    arch: str = Field("convnet", description="architecture by name, such as convnet (docs/networks.md lists them)")


@options_last
class Buffer(with_options("trainer")):  # type: ignore[misc]
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
        DSA,
        description="augmentation (DSA): color, crop, cutout, flip, scale, rotate, joined by _ where one of them is "
        "drawn for each batch, by + where one follows the other; or none",
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
    baselines: Annotated[Names, AfterValidator(each_once), AfterValidator(or_none)] | None = Field(
        None,
        description="real images to compare with: random, herding, k-center, forgetting (as many as ipc says), "
        "random-kept, random-webp (in as many bytes as the set), whole (all of them), or none; the list replaces "
        "the default: random, and for a set that is not float32 pixels also random-kept and random-webp",
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
        description="how steps run: eager (plain PyTorch), graph (CUDA graphs) or compiled; auto: compiled where that "
        "saves time in all, else CUDA graphs on a GPU and eager on a CPU",
    )
    micro_batch: PositiveInt | None = Field(
        None,
        description="how many images a step computes at a time; fewer need less memory; default: depends on the device",
    )
    data_dir: Path = Field(Path("data"), description="folder that datasets are read from, and downloaded to")
    artifacts: Path = Field(Path("artifacts"), description="where results are written")
    work_dir: Path = Field(Path(".attcli"), description="where unfinished and reusable work is kept")
    trackers: Annotated[Names, AfterValidator(each_once)] = Field(
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
        """The epoch of the experts that judges and labels initial images; none where nothing asks for it.

        A set to start from has its images and labels already.
        """
        if self.distill.start_from is not None:
            return None
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
        """The epochs of an expert that distilling reads.

        They are those it matches, the one that judges initial images, and, where experts look at images, the last one.
        """
        from attcli.settings.choices import idle

        looked = self.distill.emphasis == "cam" and "distill.emphasis" not in idle(self)
        return max(self.matched_epochs, self.label_epoch or 0, self.epochs if looked else 0)


CONTENT = ("seed", "prepare", "network", "buffer", "distill", "evaluate")
