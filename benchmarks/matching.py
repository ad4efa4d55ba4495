"""One gradient of the matching loss by the engine against the full-graph eager unroll; ConvNetD3 at 32x32, DSA."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attcli import execution
from attcli.matching import engine, select
from attcli.matching.batches import SyntheticBatches, plan, probabilities
from attcli.runtime import stream
from benchmarks.problem import CONVNET, DSA, images, span
from benchmarks.references import full_unroll
from benchmarks.timing import compare, peak_memory


@dataclass(frozen=True)
class Case:
    """ipc images per class, N_S steps of the whole set, and the matched step: N_S, half of it, or the nearest."""

    ipc: int
    steps: int
    matched: str = "full"
    rounds: int = 5
    ours: dict[str, Any] | None = None
    reference: dict[str, Any] | None = None
    """How ours is executed; and the reference, if it is not the unroll but ours, executed otherwise."""
    exact: bool = True
    """Whether both should find the same gradients; where not, their distance is what is to be known."""


CASES = {
    "ipc1-ns80-full": Case(1, 80),
    "ipc1-ns80-half": Case(1, 80, "half"),
    "ipc1-ns80-nearest": Case(1, 80, "nearest", 3),
    "ipc1-ns80-eager": Case(1, 80, "full", 3, {"asked": "eager"}),
    "ipc1-ns80-tesla": Case(1, 80, "full", 3, {"engine": "tesla"}, {}, exact=False),
    "ipc10-ns20-full": Case(10, 20, "full", 3),
    "ipc50-ns4-micro50": Case(50, 4, "full", 3, {"micro_batch": 50}, {"micro_batch": 500}),
}
FAR = 0.2
"""Two float32 implementations part ways: a ReLU whose input is within rounding of zero opens in one of them, and the
steps after it amplify that. In float64 the tests find 1e-10."""

FLAT = (10, 40, 160)
"""Numbers of steps between which the peak memory should differ by the states alone."""


def _ours(case: Case, how: dict[str, Any], device: torch.device) -> Callable[[], tuple[Tensor, Tensor, int]]:
    start, target, x, labels, lr, drawn = _problem(case, device)
    how = {"engine": "adjoint", "asked": "compiled", **how}
    matched_by = engine.load(how.pop("engine"))
    student = execution.student(CONVNET.build, device, "float32")
    count = len(x)
    work = execution.Work((3, 32, 32), 10, count, count, derivatives=True)
    step_functions = execution.step_functions(student, CONVNET.build, work, device, **how)
    targets = probabilities(labels, 10).float()

    def act() -> tuple[Tensor, Tensor, int]:
        batches = SyntheticBatches(x, targets, drawn.to(device))
        match = matched_by(step_functions, start, target, batches, lr, lambda distances: _matched(case, distances))
        return batches.gradients()[0], match.lr_gradient, match.step

    return act


def _matched(case: Case, distances: Tensor) -> int:
    return {"full": case.steps, "half": case.steps // 2}.get(case.matched) or select.nearest(distances)


def _problem(case: Case, device: torch.device) -> tuple[Any, ...]:
    start, target = (row.to(device) for row in span())
    x, labels = images(10 * case.ipc)
    drawn = plan(len(x), len(x), case.steps, DSA, stream(0, "benchmark"))
    return start, target, x.to(device), labels.to(device), torch.tensor(0.01, device=device), drawn


def _unroll(case: Case, matched: int, device: torch.device) -> Callable[[], tuple[Tensor, Tensor]]:
    start, target, x, labels, lr, drawn = _problem(case, device)
    module, there = CONVNET.build().to(device), drawn.to(device)
    batches = list(zip(there.indices, there.augmentations, strict=True))
    return lambda: full_unroll(module, start, target, x, labels, lr, batches, matched)


def prepare(who: str, name: str, device: str, steps: int | None = None) -> Callable[[], object]:
    """What a case measures, by the engine (`ours`) or by what it is compared with (`reference`)."""
    case, on = CASES[name], torch.device(device)
    torch.manual_seed(0)
    if steps:
        case = Case(case.ipc, steps)
    if who == "ours":
        return _ours(case, case.ours or {}, on)
    if case.reference is not None:
        return _ours(case, case.reference, on)
    matched = case.steps if case.matched == "full" else _ours(case, {"asked": "eager"}, on)()[2]
    return _unroll(case, matched, on)


def run(device: str, rounds: int | None, only: str) -> Iterator[dict[str, Any]]:
    """All cases; both must find the same gradients where both are exact."""
    for name, case in CASES.items():
        if only not in name:
            continue
        begun = time.perf_counter()
        ours: Any = prepare("ours", name, device)
        compiled = time.perf_counter() - begun
        reference: Any = prepare("reference", name, device)
        error = max(float((a - b).norm() / b.norm()) for a, b in zip(ours()[:2], reference()[:2], strict=True))
        assert error <= FAR or not case.exact, f"{name}: the engine and the reference differ by {error}"
        found = compare(ours, reference, rounds or case.rounds)
        peaks = [peak_memory(prepare, who, name, device) for who in ("ours", "reference")]
        found["ours"]["peak_bytes"], found["reference"]["peak_bytes"] = peaks
        found["ours"]["prepared_s"] = round(compiled, 1)
        saved = found["reference"]["wall_s"] - found["ours"]["wall_s"]
        found["ours"]["break_even_iterations"] = round(compiled / saved) if saved > 0 else None
        found["ours"]["relative_difference"] = error
        yield {"name": f"matching/{name}", "memory_ratio": round(peaks[0] / peaks[1], 4), **found}
    if only in "memory-over-steps":
        yield _flatness(device)


def _flatness(device: str) -> dict[str, Any]:
    """Peak bytes for growing N_S, as they are and without the N_S + 1 states."""
    state = 4 * len(span()[0])
    peaks = {n: peak_memory(prepare, "ours", "ipc1-ns80-full", device, n) for n in FLAT}
    without = {n: peak - (n + 1) * state for n, peak in peaks.items()}
    ratio = round(without[FLAT[-1]] / without[FLAT[0]], 4)
    return {
        "name": "matching/memory-over-steps",
        "memory_ratio": ratio,
        "ours": {"peak_bytes": peaks, "without_states": without},
        "reference": {"steps": FLAT[0]},
    }
