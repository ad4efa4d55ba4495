"""What stages will cost: operations, counted from the settings, and memory.

All of it is an estimate. Memory is what comes on top of Python's and torch's own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.filesize import decimal

from attcli import coding, execution, objectives, registry, runtime, trainers
from attcli.data import readers, sources
from attcli.data.decoding import DecodedFiles
from attcli.data.inputs import held_bytes
from attcli.data.normalise import chunk_size
from attcli.errors import MissingError
from attcli.execution import CACHED_IMAGES, Work
from attcli.matching.microbatch import sliced
from attcli.matching.parameters import Layout
from attcli.matching.student import Student, has_batch_statistics
from attcli.networks import Architecture
from attcli.options import WHITENING
from attcli.settings import Settings
from attcli.settings.choices import SCORES, unrolls
from attcli.stages import facts, inputs

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


def shape(architecture: Architecture) -> tuple[int, int, int]:
    """Channels, height and width of the images that a network takes."""
    return architecture.channels, architecture.resolution, architecture.resolution


def _train(settings: Settings) -> int:
    """The training images."""
    info, prepare = facts.of(settings), settings.prepare
    kept = info.limited(prepare.limit_per_class)
    return kept - prepare.validation


def _held(settings: Settings) -> float:
    """Bytes of the two matrices of ZCA, and of images that stay integers: all that is kept beside network inputs."""
    info = facts.of(settings)
    matrices = 2 * 4 * info.values**2 if settings.prepare.normalise in WHITENING else 0
    return float((_train(settings) + info.test) * info.values + matrices)


def _slice(settings: Settings, batch: int, architecture: Architecture) -> int:
    """The images that a step on a batch takes at a time: all of them where the network normalises over them."""
    with torch.device("meta"):
        if has_batch_statistics(architecture.build()):
            return batch
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
    passes = epochs * trainers.gradients(settings.buffer.trainer)
    if settings.buffer.curriculum != "none":
        passes += judging(settings)
    work = Work(shape(network), network.classes, batch, train * passes)
    size = _slice(settings, batch, network)
    images = held_bytes((train, *shape(network)))
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
    work = Work(shape(network), network.classes, effort.batch, seen, derivatives=True)
    size = _slice(settings, effort.batch, network)
    graphs = distilling.syn_steps if unrolls(distilling) else 1  # of so many steps at a time
    states = coding.FLOAT32_BYTES * effort.vectors * parameters(network)
    real = held_bytes((_train(settings), *shape(network))) if effort.real else 0
    return Cost(
        memory=_held(settings) + real + states + graphs * _step_memory(network, size, True),
        operations=execution.flops(network.build, work),
        slice=size,
    )


Trainings = Iterable[tuple[Architecture, int]]
"""Networks, and how often each is trained."""


def evaluate(settings: Settings, trainings: Trainings, images: int, batch: int, epochs: int, tests: int = 1) -> Cost:
    """What so many trainings of each network take, on as many images, for as many passes, with so many tests each."""
    on_cpu = runtime.device(settings.runtime.device).type == "cpu"
    asked = settings.runtime.threads
    cores = (asked if isinstance(asked, int) else runtime.cores()) if on_cpu else 1
    operations, largest, tested, size = 0.0, 0.0, 0, 1
    for network, count in trainings:
        size = _slice(settings, min(batch, images), network)
        operations += _of_trainings(settings, network, min(batch, images), images * epochs, tests, count)
        largest = max(largest, _step_memory(network, size, False))
        tested = held_bytes((facts.of(settings).test, *shape(network)))
    return Cost(
        memory=_held(settings) + tested + cores * largest,
        operations=operations,
        slice=size,
        at_once=cores if on_cpu else None,
    )


def _of_trainings(settings: Settings, network: Architecture, batch: int, seen: int, tests: int, count: int) -> float:
    """The operations of trainings that see so many images each; a test sweeps forward over the test images alone."""
    tested = facts.of(settings).test * tests // execution.SWEEPS[False]
    return execution.flops(network.build, Work(shape(network), network.classes, batch, (seen + tested) * count))


def with_whole(settings: Settings, scores: Cost, trainings: Trainings) -> Cost:
    """The cost of scores, and of so many trainings on all training images beside them."""
    train, operations, held = _train(settings), scores.operations, 0
    for network, count in trainings:
        seen = train * settings.evaluate.whole_epochs
        operations += _of_trainings(settings, network, min(train, settings.evaluate.batch or train), seen, 1, count)
        held = held_bytes((train, *shape(network)))
    return replace(scores, operations=operations, memory=scores.memory + held)


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
        module(torch.zeros(2, *shape(architecture), device="meta"))
    for hook in hooks:
        hook.remove()
    return total // 2


def size_in_words(count: float) -> str:
    """A number of bytes in words, such as 222 MB."""
    return decimal(round(count), precision=0)
