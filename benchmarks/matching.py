"""The matching engine against the full unroll: ConvNetD3 on 32x32 images of ten classes, no augmentation."""

from collections.abc import Callable
from typing import Any

import torch

from attcli.matching import adjoint
from attcli.matching.batches import SyntheticBatches, plan, probabilities
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.runtime import stream
from benchmarks.references import full_unroll
from benchmarks.timing import compare, peak_memory

CASES = {"ipc1-ns20": (10, 20), "ipc10-ns5": (100, 5)}
"""Images in the set (all in each batch), steps of the student."""


def prepare(who: str, images: int, steps: int) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """One gradient of the matching loss of the last step, by the engine (`ours`) or by the reference."""
    torch.manual_seed(0)
    module = Architecture("convnet", 3, 10, 32, {}).build()
    start = vector(module)
    target = start + 0.01 * torch.randn_like(start)
    x, labels, lr = torch.randn(images, 3, 32, 32), torch.arange(images) % 10, torch.tensor(0.01)
    drawn = plan(images, images, steps, "none", stream(0, "benchmark"))
    student, targets = Student.of(module), probabilities(labels, 10).float()

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        batches = SyntheticBatches(x, targets, drawn)
        match = adjoint.match(student, start, target, batches, lr, lambda distances: steps)
        return batches.image_gradient, match.lr_gradient

    def reference() -> tuple[torch.Tensor, torch.Tensor]:
        return full_unroll(module, start, target, x, labels, lr, list(drawn.indices))

    return ours if who == "ours" else reference


def run(rounds: int) -> list[dict[str, Any]]:
    """All cases; both must find the same gradients."""
    results = []
    for name, (images, steps) in CASES.items():
        ours, reference = (prepare(who, images, steps) for who in ("ours", "reference"))
        for a, b in zip(ours(), reference(), strict=True):
            assert (a - b).norm() <= 1e-3 * b.norm(), f"{name}: the engine and the reference differ"
        found = compare(ours, reference, rounds)
        peaks = [peak_memory(prepare, who, images, steps) for who in ("ours", "reference")]
        found["ours"]["peak_bytes"], found["reference"]["peak_bytes"] = peaks
        results.append({"name": f"matching/{name}", "memory_ratio": round(peaks[0] / peaks[1], 4), **found})
    return results
