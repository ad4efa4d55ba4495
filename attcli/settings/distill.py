"""The settings of `distill`: the method, and how a synthetic set is initialised and optimised."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from attcli.options import DSA
from attcli.settings.sections import Precision, options_last, with_options


@options_last
class Distill(with_options("objective", "parameterisation", "storage")):  # type: ignore[misc]
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
        "students too, but never change, nor do their learned labels",
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
