"""How the step functions are executed: eagerly, as CUDA graphs, or compiled; whole batches or slices of them.

None of it changes what is computed beyond rounding. What `auto` picks depends on the device and on the amount of work
that the settings ask for, never on timing or on how much of it is done, so that a run that is resumed with the same
settings computes as before. One that is extended may go on by other means; `runtime.execution` fixes them.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from loguru import logger
from torch.utils.flop_counter import FlopCounterMode

from attcli.errors import UserError
from attcli.matching.compiled import Compiled
from attcli.matching.graphed import Graphed
from attcli.matching.microbatch import MicroBatched, sliced
from attcli.matching.steps import Steps
from attcli.matching.student import Student, has_batch_statistics

COMPILE_FROM = {"cpu": 1e14, "cuda": 2e15}
"""Floating-point operations from which compiling, which takes about a minute, pays back (docs/performance.md)."""

COMPILED_WEIGHTS = {"cpu": 4e6, "cuda": float("inf")}
"""Weights up to which compiled steps are the faster ones: larger ones cost more to lay out than fusing saves."""

CACHED_IMAGES = 32
"""On a CPU, batches are cut into slices of at most so many images: their activations stay in the caches."""

SWEEPS = {False: 3, True: 12}
"""Forward sweeps over the network that a step costs: g alone, or g and h."""


@dataclass(frozen=True)
class Work:
    """What the step functions will be called for.

    image: the shape (C, H, W) of an image; batch: images a batch; images: images that the calls will see in all;
    filled_up: whether some batches are short, and filled up with images of weight 0; derivatives: whether h is called,
    beside g; labels: whether it is asked for those in the labels; dtype: what parameters and images are kept in.
    """

    image: tuple[int, ...]
    classes: int
    batch: int
    images: int
    filled_up: bool = False
    derivatives: bool = False
    labels: bool = False
    dtype: torch.dtype = torch.float32


def student(build: Callable[[], torch.nn.Module], device: torch.device, precision: str) -> Student:
    """A student of the network that `build` makes, on the device, computing in this precision."""
    return Student.of(build().to(device), torch.bfloat16 if precision == "bfloat16" else None)


def dtype(precision: str) -> torch.dtype:
    """What parameters, images and sums are kept in."""
    return torch.float64 if precision == "float64" else torch.float32


def set_precision(precision: str) -> None:
    """Let a GPU's matrix units round float32 inputs to TF32, or not."""
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def flops(build: Callable[[], torch.nn.Module], work: Work) -> float:
    """The floating-point operations of all calls of `work`, counted on one forward sweep over one image."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build()(torch.empty(1, *work.image))
    return float(counter.get_total_flops()) * work.images * SWEEPS[work.derivatives]


def choose(asked: str, device: torch.device, amount: float, weights: int) -> str:
    """The execution that `auto` means for so many floating-point operations of a network of so many weights.

    UserError if `asked` can't be had.
    """
    if asked == "graph" and device.type != "cuda":
        raise UserError("runtime.execution graph replays CUDA graphs and needs a GPU; use auto, eager or compiled")
    if asked != "auto":
        return asked
    if amount >= COMPILE_FROM.get(device.type, float("inf")) and weights <= COMPILED_WEIGHTS[device.type]:
        return "compiled"
    return "graph" if device.type == "cuda" else "eager"


def slices(student: Student, asked: int | None, device: torch.device, work: Work) -> int:
    """The images that a step takes at a time. UserError if the network does not bear what is asked for."""
    batch = work.batch
    if has_batch_statistics(student.module):
        why = "the network normalises over the batch, so that an image's gradient depends on its neighbours"
        if asked is not None and asked < batch:
            raise UserError(f"runtime.micro_batch {asked} cuts batches of {batch}, but {why}; leave micro_batch out")
        if work.filled_up:
            raise UserError(f"batches of {batch} leave a short one, but {why}; choose a batch that divides the images")
        return batch
    if asked is None:
        asked = CACHED_IMAGES if device.type == "cpu" else batch
    return sliced(batch, min(asked, batch))


def _made(student: Student, name: str, device: torch.device) -> Steps:
    if name == "eager":
        return student
    steps: Steps = Compiled(student, channels_last=True) if name == "compiled" else student
    return Graphed(steps) if device.type == "cuda" else steps


def _warm_up(steps: Steps, student: Student, work: Work, size: int, device: torch.device) -> None:
    """Call each function that will be used once, on zeros: compiles or captures it."""
    how: dict[str, Any] = {"device": device, "dtype": work.dtype}
    theta = torch.zeros(student.layout.size, **how)
    x = torch.zeros((size, *work.image), **how)
    p = torch.full((size, work.classes), 1 / work.classes, **how)
    w = torch.full((size,), 1 / size, **how)
    steps.gradient(theta, x, p, w)
    if work.derivatives:
        steps.derivatives(theta, x, p, w, torch.zeros_like(theta), labels=work.labels)


def steps(
    student: Student,
    build: Callable[[], torch.nn.Module],
    work: Work,
    device: torch.device,
    asked: str = "auto",
    micro_batch: int | None = None,
) -> Steps:
    """The student's step functions, ready to be called with batches of `work.batch` images.

    Where compiling or capturing fails, the next simpler execution takes over, with a warning.
    """
    size = slices(student, micro_batch, device, work)
    name = choose(asked, device, flops(build, work), student.layout.size)
    for attempt in dict.fromkeys([name, "graph" if device.type == "cuda" else "eager", "eager"]):
        made = _made(student, attempt, device)
        if attempt == "eager":
            break
        begun = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _warm_up(made, student, work, size, device)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            logger.warning("execution {} failed ({}); going on without it", attempt, reason)
            continue
        logger.info("execution {}, {} images at a time, ready in {:.0f} s", attempt, size, time.monotonic() - begun)
        break
    return made if size == work.batch else MicroBatched(made, size)
