"""What stages will cost on this device: operations counted from the settings, at a rate measured here; and memory.

All of it is an estimate. Memory is what comes on top of Python's and torch's own.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.filesize import decimal

from attcli import coding, execution, objectives, registry, runtime
from attcli.data import readers, sources
from attcli.data.decoding import DecodedFiles
from attcli.data.inputs import held_bytes
from attcli.data.normalise import chunk_size
from attcli.errors import MissingError, UserError
from attcli.execution import CACHED_IMAGES, Work
from attcli.matching.halving import is_out_of_memory, told
from attcli.matching.microbatch import sliced
from attcli.matching.parameters import Layout
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.options import WHITENING
from attcli.settings import Settings
from attcli.settings.choices import SCORES
from attcli.stages import facts, inputs

MEASURED_SECONDS = 0.5
KEPT_COPIES = {False: 3, True: 6}
"""Copies of a slice's activations that are held at the peak of g alone, or of h.

For h six were measured: values, tangents, and the adjoints of both. g has no tangents, which is half of it.
"""

PREPARED_COPIES = 13
"""Bytes per pixel value of a piece while it is prepared: integers, float32, and a float64 copy for statistics."""


OF_A_VALUE = 200.0
"""What preparing a pixel's value takes (reading, counting, writing, hashing), as operations of a float64 matrix product
that take as long."""

EIGENVECTORS = 11.0
"""The same for the eigenvectors of a matrix, by the cube of its side."""

MATRIX_SIDE = 768
"""Side of the matrices whose product is timed."""


@dataclass(frozen=True)
class Cost:
    """What is left of a stage.

    operations: floating-point operations of the network; doubles: those in float64, of matrices; slice: images that a
    step takes at a time; at_once: trainings that run side by side, each on one core; memory: bytes; seconds: what was
    measured otherwise, None where the time is not known.
    """

    memory: float
    operations: float = 0.0
    doubles: float = 0.0
    slice: int = 1
    at_once: int | None = None
    seconds: float | None = 0.0


def images_about(settings: Settings) -> dict[str, Any]:
    """What a prepared dataset's header would say of its images."""
    info = facts.of(settings)
    return {"channels": info.channels, "classes": [""] * info.classes, "resolution": info.resolution}


def parameters(architecture: Architecture) -> int:
    """The number of parameters of a network, which is not made for it."""
    with torch.device("meta"):
        return Layout.of(architecture.build()).size


def _shape(architecture: Architecture) -> tuple[int, int, int]:
    return architecture.channels, architecture.resolution, architecture.resolution


def _train(settings: Settings) -> int:
    """The training images."""
    info, prepare = facts.of(settings), settings.prepare
    kept = min(info.train, prepare.limit_per_class * info.classes) if prepare.limit_per_class else info.train
    return kept - prepare.validation


def _held(settings: Settings) -> float:
    """Bytes of the two matrices of ZCA, and of images that stay integers: all that is kept beside network inputs."""
    info = facts.of(settings)
    matrices = 2 * 4 * info.values**2 if settings.prepare.normalise in WHITENING else 0
    return float((_train(settings) + info.test) * info.values + matrices)


def _slice(settings: Settings, batch: int) -> int:
    """The images that a step on a batch takes at a time."""
    asked = settings.runtime.micro_batch
    if asked is None:
        asked = CACHED_IMAGES if runtime.device(settings.runtime.device).type == "cpu" else batch
    return sliced(batch, min(asked, batch))


def _step_memory(architecture: Architecture, size: int, derivatives: bool) -> float:
    return 4.0 * KEPT_COPIES[derivatives] * size * _activations(architecture)


def prepare(settings: Settings) -> Cost:
    """What preparing takes; how long image files take to decode is measured on some of them."""
    info = facts.of(settings)
    values = info.values
    doubles = OF_A_VALUE * (info.train + info.test) * values
    if settings.prepare.normalise in WHITENING:
        doubles += 2.0 * _train(settings) * values**2 + EIGENVECTORS * values**3
    whitening = 5 * 8 * values**2 if settings.prepare.normalise in WHITENING else 0
    piece = min(info.train, chunk_size(values)) * values
    seconds = _decoding(settings) if hasattr(registry.source(info.name), "digest") else 0.0
    return Cost(memory=PREPARED_COPIES * piece + whitening, doubles=doubles, seconds=seconds)


def _decoding(settings: Settings) -> float | None:
    """The seconds that decoding all image files takes; None where they are missing."""
    try:
        source = sources.load(settings.images)
    except MissingError:
        return None
    splits = [split for split in (source.train, source.test) if isinstance(split, DecodedFiles) and len(split.labels)]
    return sum(len(split.labels) * split.seconds_each() / readers.at_once(len(split.labels)) for split in splits)


def buffer(settings: Settings, epochs: int) -> Cost:
    """What training takes for so many epochs of all experts together."""
    network = inputs.architecture(settings.network, images_about(settings))
    train = _train(settings)
    batch = min(settings.buffer.batch, train)
    passes = epochs * (2 if settings.buffer.trainer == "ftd" else 1)  # FTD's step takes two gradients
    if settings.buffer.curriculum != "none":
        passes += judging(settings)
    work = Work(_shape(network), network.classes, batch, train * passes)
    size = _slice(settings, batch)
    images = held_bytes((train, *_shape(network)))
    return Cost(
        memory=_held(settings) + images + _step_memory(network, size, False),
        operations=execution.flops(network.build, work),
        slice=size,
    )


def judging(settings: Settings) -> int:
    """The epochs of all networks that are trained to find out how hard images are, at most: some may be kept."""
    buffer = settings.buffer
    return buffer.difficulty_networks * buffer.difficulty_epochs if buffer.difficulty in SCORES else 0


def distill(settings: Settings, iterations: int) -> Cost:
    """What so many iterations take."""
    network, distilling = inputs.architecture(settings.network, images_about(settings)), settings.distill
    images = network.classes * coding.images_per_class(distilling, network.channels, network.resolution)
    effort = objectives.effort(distilling, network.classes, images // network.classes)
    seen = round(effort.images * distilling.spans * iterations)
    if distilling.init == "ranked":
        seen += judging(settings) * _train(settings) // 4  # a step of theirs takes g alone, a quarter of g and h
    work = Work(_shape(network), network.classes, effort.batch, seen, derivatives=True)
    size = _slice(settings, effort.batch)
    states = coding.FLOAT32_BYTES * effort.vectors * parameters(network)
    real = held_bytes((_train(settings), *_shape(network))) if effort.real else 0
    return Cost(
        memory=_held(settings) + real + states + _step_memory(network, size, True),
        operations=execution.flops(network.build, work),
        slice=size,
    )


def evaluate(
    settings: Settings, trainings: Iterable[tuple[Architecture, int]], images: int, batch: int, epochs: int
) -> Cost:
    """What so many trainings of each network take, on as many images, for as many passes."""
    size = _slice(settings, min(batch, images))
    on_cpu = runtime.device(settings.runtime.device).type == "cpu"
    asked = settings.runtime.threads
    cores = (asked if isinstance(asked, int) else runtime.cores()) if on_cpu else 1
    operations, largest = 0.0, 0.0
    tested = 0
    for network, count in trainings:
        work = Work(_shape(network), network.classes, min(batch, images), images * epochs * count)
        operations += execution.flops(network.build, work)
        largest = max(largest, _step_memory(network, size, False))
        tested = held_bytes((facts.of(settings).test, *_shape(network)))
    return Cost(
        memory=_held(settings) + tested + cores * largest,
        operations=operations,
        slice=size,
        at_once=cores if on_cpu else None,
    )


def with_whole(settings: Settings, scores: Cost, trainings: int) -> Cost:
    """The cost of scores, and of so many trainings on all training images beside them."""
    network, train = inputs.architecture(settings.network, images_about(settings)), _train(settings)
    work = Work(_shape(network), network.classes, train, train * settings.evaluate.whole_epochs * trainings)
    images = held_bytes((train, *_shape(network)))
    operations = scores.operations + execution.flops(network.build, work)
    return replace(scores, operations=operations, memory=scores.memory + images)


class Rates:
    """Floating-point operations per second of the settings' network on this device, measured when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._device = runtime.device(settings.runtime.device)
        self._network = inputs.architecture(settings.network, images_about(settings))
        self._measured: dict[tuple[int, int], float] = {}
        self._doubles: float | None = None

    def seconds(self, cost: Cost) -> float | None:
        """How long a stage takes; None where that is not known."""
        if cost.seconds is None:
            return None
        return cost.seconds + self._of_network(cost) + (cost.doubles / self._of_doubles() if cost.doubles else 0.0)

    def _of_doubles(self) -> float:
        """Operations in float64 per second, measured on a product of matrices on the CPU."""
        if self._doubles is None:
            matrix = torch.ones((MATRIX_SIDE, MATRIX_SIDE), dtype=torch.float64)
            self._doubles = 2.0 * MATRIX_SIDE**3 / _shortest(lambda: matrix @ matrix)
        return self._doubles

    def _of_network(self, cost: Cost) -> float:
        if not cost.operations:
            return 0.0
        work = Work(_shape(self._network), self._network.classes, cost.slice, cost.slice)
        threads = execution.threads(self._settings.runtime.threads, self._network.build, work)
        key = (cost.slice, threads if cost.at_once is None else 1)
        if key not in self._measured:
            self._measured[key] = self._measure(*key)
        return cost.operations / self._measured[key] / (cost.at_once or 1)

    def said(self) -> str:
        """The rates that were measured, and what they are of."""
        rates = " and ".join(dict.fromkeys(f"{rate / 1e9:.2g}" for rate in self._measured.values()))
        return (
            f"at {rates} GFLOP/s, the speed that plain steps of {self._network.name} have just shown on "
            f"{self._device.type}; long runs compile their steps, which is faster"
        )

    def _measure(self, size: int, threads: int) -> float:
        """The rate of steps on so many images, or on fewer where memory is too small. UserError where it is for one."""
        try:
            return self._measure_of(size, threads)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                why = f"{self._device} has too little memory for one image at a time ({told(error)})"
                raise UserError(f"{why}; free some of it, or choose a smaller network or another device") from None
        return self._measure(size // 2, threads)

    def _measure_of(self, size: int, threads: int) -> float:
        student = execution.student(self._network.build, self._device, "float32")
        theta = torch.zeros(student.layout.size, device=self._device)
        x = torch.zeros((size, *_shape(self._network)), device=self._device)
        p = torch.full((size, self._network.classes), 1 / self._network.classes, device=self._device)
        w = torch.full((size,), 1 / size, device=self._device)
        work = Work(_shape(self._network), self._network.classes, size, size)
        with _threads(threads):
            shortest = _shortest(lambda: student.gradient(theta, x, p, w).norm().item())
        return execution.flops(self._network.build, work) / shortest


def _shortest(call: Callable[[], object]) -> float:
    """The seconds of the fastest of some calls."""
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < MEASURED_SECONDS:
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _activations(architecture: Architecture) -> int:
    """Values of all layers' outputs for one image."""
    total = 0

    def count(layer: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel()

    with torch.device("meta"):
        module = Student.of(architecture.build()).module
    hooks = [layer.register_forward_hook(count) for layer in module.modules() if not list(layer.children())]
    with torch.no_grad():
        # Two images, as a norm may refuse a single one.
        module(torch.zeros(2, *_shape(architecture), device="meta"))
    for hook in hooks:
        hook.remove()
    return total // 2


def size_in_words(count: float) -> str:
    """A number of bytes in words, such as 222 MB."""
    return decimal(round(count), precision=0)
