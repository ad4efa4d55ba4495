"""How the step functions are executed: eagerly, as CUDA graphs, or compiled; whole batches or slices of them.

None of it changes what is computed beyond rounding. What `auto` picks depends on the device and on the amount of work
that the settings ask for, never on timing or on how much of it is done, so that a run that is resumed with the same
settings computes as before. One that is extended may go on by other means; `runtime.execution` fixes them.
"""

import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from attcli import runtime
from attcli.errors import UserError
from attcli.matching.compiled import Compiled, agree
from attcli.matching.graphed import Graphed
from attcli.matching.halving import Halving, Room, is_out_of_memory
from attcli.matching.microbatch import MicroBatched, sliced
from attcli.matching.parameters import vector
from attcli.matching.statistics import unfilled
from attcli.matching.step_functions import StepFunctions
from attcli.matching.student import Student, has_batch_statistics

COMPILE_FROM = {"cpu": 2e13, "cuda": 2e15}
"""Floating-point operations of a command's whole work from which compiling pays back (docs/performance.md)."""

COMPILED_WEIGHTS = 4e6
"""Weights up to which compiled steps are faster on a CPU: larger ones cost more to lay out than fusing saves."""

CACHED_IMAGES = 32
"""On a CPU, batches are cut into slices of at most so many images: their activations stay in the caches."""

THREADED_FROM = 5e7
"""Floating-point operations of a slice's forward sweep from which several threads pay on a CPU.

Below, each of the many small operations costs about as much to share out as to compute, and a second busy process makes
every one of them wait (docs/performance.md).
"""

CHECKED_IMAGES = 3
"""Images on which the derivative that is to be compiled is checked."""

TOLERANCE = {torch.float64: 1e-7, torch.float32: 0.02}
LOW_PRECISION = 0.3
"""Relative differences between executions that rounding explains: a ReLU whose input is near zero may open in one."""

SWEEPS = {False: 3, True: 12}
"""Forward sweeps over the network that a step costs: g alone, or g and h."""

Build = Callable[[], torch.nn.Module]


@dataclass(frozen=True)
class Work:
    """What the step functions will be called for.

    image: the shape (C, H, W) of an image; batch: images per batch; images: images that the calls will see in all;
    short: images of a short batch, which is filled up with images of weight 0, or 0 where none is short;
    derivatives: whether h is called, beside g; labels: whether it is asked for those in the labels; dtype: what
    parameters and images are kept in.
    """

    image: tuple[int, ...]
    classes: int
    batch: int
    images: int
    short: int = 0
    derivatives: bool = False
    labels: bool = False
    dtype: torch.dtype = torch.float32


def student(build: Build, device: torch.device, precision: str) -> Student:
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


def flops(build: Build, work: Work) -> float:
    """The floating-point operations of all calls of `work`, counted on one forward sweep over one image."""
    try:
        per_image = _sweep("meta", build, work)
    except (NotImplementedError, RuntimeError):  # the network looks at values, which a meta tensor has not
        per_image = _sweep("cpu", build, work)
    return per_image * work.images * SWEEPS[work.derivatives]


def _sweep(device: str, build: Build, work: Work) -> float:
    """The floating-point operations of a forward sweep over one image."""
    from torch.utils.flop_counter import FlopCounterMode  # imports triton

    with torch.device(device), FlopCounterMode(display=False) as counter:
        network = runtime.seeded(build, 0, "flops")
        network.eval()(torch.zeros(1, *work.image))  # a norm may refuse a single image in training mode
    return float(counter.get_total_flops())


def threads(asked: int | str | None, build: Build, work: Work) -> int:
    """The CPU threads that a step gets: those asked for, or, for `auto`, one for small steps and all cores for others.

    It follows from the size of a step alone, so that the same settings compute the same bytes.
    """
    if isinstance(asked, int):
        return asked
    size = sliced(work.batch, min(CACHED_IMAGES, work.batch))
    forward = flops(build, replace(work, images=size, derivatives=False)) / SWEEPS[False]
    return 1 if forward < THREADED_FROM else runtime.cores()


def use_threads(asked: int | str | None, build: Build, work: Work) -> None:
    """Let torch compute with so many threads from now on, and say so."""
    count = threads(asked, build, work)
    if count != torch.get_num_threads():
        torch.set_num_threads(count)
        logger.info("steps use {} CPU thread{}", count, "" if count == 1 else "s")


def choose(asked: str, device: torch.device, amount: float, weights: int) -> str:
    """The execution that `auto` means for so many floating-point operations of a network of so many weights.

    UserError if `asked` can't be had.
    """
    if asked == "graph" and device.type != "cuda":
        raise UserError("runtime.execution graph replays CUDA graphs and needs a GPU; use auto, eager or compiled")
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "compiled" if amount >= COMPILE_FROM["cuda"] else "graph"
    return "compiled" if amount >= COMPILE_FROM["cpu"] and weights <= COMPILED_WEIGHTS else "eager"


def slices(student: Student, asked: int | None, device: torch.device, work: Work) -> int:
    """The images that a step takes at a time. UserError if the network does not bear what is asked for."""
    batch = work.batch
    if has_batch_statistics(student.module):
        why = "the network normalises over the batch, so that an image's gradient depends on its neighbours"
        if asked is not None and asked < batch:
            raise UserError(f"runtime.micro_batch {asked} cuts batches of {batch}, but {why}; leave micro_batch out")
        if 1 in (batch, work.short):
            which = (
                f"batches of {batch} images leave one of a single image" if batch > 1 else "a batch is a single image"
            )
            raise UserError(f"{which}, but the network normalises over the batch; choose another batch size")
        return batch
    if asked is None:
        asked = CACHED_IMAGES if device.type == "cpu" else batch
    return sliced(batch, min(asked, batch))


def room(student: Student, asked: int | None, device: torch.device, work: Work) -> Room:
    """The slices of `slices`, which are halved where the memory is too small for them, with a warning."""
    least = work.batch if has_batch_statistics(student.module) else 1
    return Room(slices(student, asked, device, work), work.batch, least, str(device), logger.warning)


@dataclass(frozen=True)
class Point:
    """Random parameters, images, targets, weights and lambda, such as the step functions will be called with."""

    theta: Tensor
    x: Tensor
    p: Tensor
    w: Tensor
    lam: Tensor

    @classmethod
    def near(cls, build: Build, work: Work, size: int, device: torch.device) -> "Point":
        """A point near a freshly initialised network, the same whenever it is asked for."""
        generator = runtime.stream(0, "warm-up")

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        theta = vector(runtime.seeded(build, 0, "warm-up"))
        drawn = cls(
            theta + 0.01 * normal(len(theta)),
            normal(size, *work.image),
            normal(size, work.classes).softmax(dim=1),
            torch.full((size,), 1 / size),
            normal(len(theta)),
        )
        return cls(*(part.to(device, work.dtype) for part in vars(drawn).values()))


def _forward_mode_is_exact(student: Student, build: Build, work: Work) -> bool:
    """Whether h may be compiled as reverse over forward for this network, seen on a few images in float64.

    It may not where a layer has no forward-mode rule, either.
    """
    exact = replace(work, dtype=torch.float64)
    point = Point.near(build, exact, min(work.batch, CHECKED_IMAGES), torch.device("cpu"))
    twin = Student.of(deepcopy(student.module).to("cpu", torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        try:
            return Compiled(twin, channels_last=False).forward_mode_is_exact(*vars(point).values())
        except (NotImplementedError, RuntimeError):
            return False


def _made(student: Student, name: str, device: torch.device, reverse: bool) -> StepFunctions:
    if name == "eager":
        return student
    functions: StepFunctions = Compiled(student, channels_last=True, reverse=reverse) if name == "compiled" else student
    return Graphed(functions) if device.type == "cuda" else functions


def _warm_up(tried: StepFunctions, student: Student, work: Work, point: Point) -> None:
    """Call each function that will be used, which compiles or captures it, and compare it with the eager one.

    WrongResultError if they differ by more than rounding can explain.
    """
    low = student.dtype is not None or torch.backends.cuda.matmul.allow_tf32
    tolerance = LOW_PRECISION if low else TOLERANCE[work.dtype]
    arguments = (point.theta, point.x, point.p, point.w)
    g = student.gradient(*arguments)
    same = [agree(tried.gradient(*arguments).clone(), g, tolerance)]
    if work.derivatives:
        ours = tried.derivatives(*arguments, point.lam, labels=work.labels)
        theirs = student.derivatives(*arguments, point.lam, labels=work.labels)
        # <g, lambda> may cancel to almost nothing: what its terms could add up to is its measure.
        largest = (g.norm() * point.lam.norm()).double()
        same.append(bool((ours.inner - theirs.inner).abs().double() <= tolerance * largest))
        pairs = zip(ours[1:], theirs[1:], strict=True)
        same += [agree(a, b, tolerance) for a, b in pairs if a is not None and b is not None]
    if not all(same):
        raise WrongResultError("its results are not those of eager steps")


class WrongResultError(Exception):
    """An execution that computes something else than the eager steps do."""


def step_functions(
    student: Student,
    build: Build,
    work: Work,
    device: torch.device,
    asked: str = "auto",
    micro_batch: int | None = None,
    *,
    halving: bool = True,
) -> StepFunctions:
    """The student's step functions, ready to be called with batches of `work.batch` images.

    Where compiling or capturing fails, or gives other results than eager steps, the next simpler execution takes over,
    with a warning. Where the memory is too small, slices are halved until they fit, also later, unless `halving` is
    off; UserError where they can't be.
    """
    there = room(student, micro_batch, device, work)
    name = choose(asked, device, flops(build, work), student.layout.size)
    reverse = name == "compiled" and work.derivatives and not _forward_mode_is_exact(student, build, work)
    if reverse:
        logger.info("the network has layers that torch differentiates wrongly in forward mode; h is compiled otherwise")

    def of_slices(size: int) -> StepFunctions:
        tried = _first_that_works(student, build, work, device, name, size, reverse)
        if size < work.batch:
            return MicroBatched(tried, size)
        return unfilled(tried, student.module) if work.short else tried

    if not halving:
        return of_slices(there.size)
    return Halving(of_slices, there)


CAPTURE_ERRORS = range(900, 910)
"""CUDA's numbers of what a graph's capture does not allow, such as waiting for the GPU; they do no harm to it."""


def _is_final(error: BaseException) -> bool:
    """Whether the process gets nothing more from its GPU after this error."""
    return isinstance(error, torch.AcceleratorError) and getattr(error, "error_code", None) not in CAPTURE_ERRORS


def _first_that_works(
    student: Student, build: Build, work: Work, device: torch.device, name: str, size: int, reverse: bool
) -> StepFunctions:
    """The execution of that name for slices of `size` images, or the first simpler one that computes the same."""
    for attempt in dict.fromkeys([name, "graph" if device.type == "cuda" else "eager"]):
        if attempt == "eager":
            break
        tried = _made(student, attempt, device, reverse)
        begun = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _warm_up(tried, student, work, Point.near(build, work, size, device))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if _is_final(error):
                other = "graph" if attempt == "compiled" else "eager"
                raise UserError(
                    f"execution {attempt} made the GPU fail ({reason}); run again with --set runtime.execution={other}"
                ) from error
            logger.warning("execution {} failed ({}); going on without it", attempt, reason)
            continue
        logger.info("execution {}, {} images at a time, ready in {:.0f} s", attempt, size, time.monotonic() - begun)
        return tried
    return _made(student, "eager", device, reverse)


def told(step_functions: Any) -> str:
    """What step functions are made of, such as `Graphed of Compiled`."""
    kinds = []
    while step_functions is not None:
        if not isinstance(step_functions, Halving):  # which is no execution
            kinds.append(type(step_functions).__name__)
        step_functions = getattr(step_functions, "step_functions", None)
    return " of ".join(kinds)
