"""What a run will cost on this machine: time by a rate that is measured on the spot, memory, disk by the forecast."""

import time

import torch

from attcli import execution, runtime
from attcli.data import sources
from attcli.data.inputs import held_bytes
from attcli.execution import CACHED_IMAGES, Work
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring.protocol import Protocol
from attcli.settings import Settings
from attcli.stages import inputs

MEASURED_SECONDS = 1.0
KEPT_COPIES = 6
"""Copies of a slice's activations that h holds at its peak: values, tangents, and the adjoints of both (measured)."""


def cost(settings: Settings) -> str:
    """Lines for the experts, the distillation and the scores, none of them done yet."""
    info = sources.describe(settings.images)
    about = {"channels": info.channels, "classes": [""] * info.classes, "resolution": info.resolution}
    network = inputs.architecture(settings.network, about)
    image = (info.channels, info.resolution, info.resolution)
    device = runtime.device(settings.runtime.device)
    distill, evaluate = settings.distill, settings.evaluate
    images = distill.ipc * info.classes
    batch = min(distill.batch_syn or images, images)
    per_class = settings.prepare.limit_per_class
    trained = min(info.train, per_class * info.classes) if per_class else info.train
    passes = settings.buffer.experts * settings.epochs * (2 if settings.buffer.trainer == "ftd" else 1)
    networks = evaluate.repeats * (3 + len(evaluate.random_lrs))

    def work(count: int, derivatives: bool = False) -> float:
        return execution.flops(network.build, Work(image, info.classes, batch, count, derivatives=derivatives))

    def scored(arch: str) -> Architecture:
        return network if arch == network.name else Architecture.of({"arch": arch}, about)

    passes = evaluate.epochs or Protocol.epochs
    amounts = {
        "buffer": work(trained * passes),
        "distill": work(batch * distill.syn_steps * distill.iterations, derivatives=True),
        "evaluate": sum(
            execution.flops(scored(arch).build, Work(image, info.classes, batch, images * passes * networks))
            for arch in evaluate.archs
        ),
    }
    student = execution.student(network.build, device, "float32")
    rate = _rate(student, image, info.classes, device, work(CACHED_IMAGES))
    lines = [f"{stage:9} up to {_duration(amount / rate)}" for stage, amount in amounts.items()]
    size = execution.slices(student, settings.runtime.micro_batch, device, Work(image, info.classes, batch, batch))
    memory = {
        "a step": KEPT_COPIES * 4 * size * _activations(student.module, image),
        "the student's states": 4 * (distill.syn_steps + 1) * student.layout.size,
        "the training images": held_bytes((trained, *image)),
    }
    parts = ", ".join(f"{amount / 1e9:.1f} GB for {what}" for what, amount in memory.items())
    note = f"from nothing, at the {rate / 1e9:.3g} GFLOP/s that eager steps reach here"
    return "\n".join([*lines, f"          ({note})", f"memory    about {sum(memory.values()) / 1e9:.1f} GB: {parts}"])


def _rate(student: Student, image: tuple[int, ...], classes: int, device: torch.device, amount: float) -> float:
    """Floating-point operations a second of one step on a slice of images."""
    theta = torch.zeros(student.layout.size, device=device)
    x = torch.zeros((CACHED_IMAGES, *image), device=device)
    p = torch.full((CACHED_IMAGES, classes), 1 / classes, device=device)
    w = torch.full((CACHED_IMAGES,), 1 / CACHED_IMAGES, device=device)
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < MEASURED_SECONDS:
        begun = time.perf_counter()
        student.gradient(theta, x, p, w).norm().item()
        taken.append(time.perf_counter() - begun)
    return amount / min(taken)


def _activations(module: torch.nn.Module, image: tuple[int, ...]) -> int:
    """Values of all layers' outputs for one image."""
    total = 0

    def count(layer: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel()

    hooks = [layer.register_forward_hook(count) for layer in module.modules() if not list(layer.children())]
    with torch.no_grad():
        module(torch.zeros(1, *image, device=next(module.parameters()).device))
    for hook in hooks:
        hook.remove()
    return total


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
