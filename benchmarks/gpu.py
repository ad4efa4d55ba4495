"""`python -m benchmarks.gpu [--json FILE]`: how long an iteration, an expert's epoch and a score take on a GPU.

Each execution and precision of the step functions, beside a plainly written reference in torch's own defaults, as the
literature's scripts have them (eager; convolutions may round to TF32). Seconds by the clock, medians of several rounds;
bytes are the peak of what torch holds during a round: images, states, and what recorded graphs keep. `--device cpu`
tries the command out. Where the GPU fails, nothing more can be measured; `--execution` leaves out what made it fail.
"""

import gc
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from attcli import execution, progress, runtime
from attcli.errors import UserError
from attcli.matching import adjoint
from attcli.matching.batches import SyntheticBatches, plan, probabilities
from attcli.matching.halving import told
from attcli.matching.parameters import vector
from attcli.runtime import stream
from attcli.scoring.protocol import Protocol
from attcli.scoring.training import fresh
from attcli.scoring.training import train as train_by_protocol
from attcli.trainers.training import Optimiser, train_epoch
from benchmarks.problem import CONVNET, DSA, images
from benchmarks.references import full_unroll, train
from benchmarks.timing import machine, timed

EXECUTIONS = {"cpu": ("eager", "compiled"), "cuda": ("eager", "graph", "compiled")}
PRECISIONS = ("float32", "tf32", "bfloat16")
MATCHING = {"batch 10, N_S 80": (1, 80), "batch 100, N_S 20": (10, 20), "batch 500, N_S 4": (50, 4)}
"""Images per class, and steps of the whole set."""
PASSES = {"cpu": 5, "cuda": 300}
EPOCH = {"cpu": 512, "cuda": 50_000}
BATCH = 256
REFERENCE, PLAIN = "reference", "torch's default"

Act = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One thing to measure: its name, how it is computed, and what prepares it."""

    name: str
    execution: str
    precision: str
    prepare: Callable[[], Act]


def _step_functions(asked: str, precision: str, work: execution.Work, on: torch.device) -> Any:
    student = execution.student(CONVNET.build, on, precision)
    made = execution.step_functions(student, CONVNET.build, work, on, asked, halving=False)
    if {"compiled": "Compiled", "graph": "Graphed"}.get(asked, "") not in execution.told(made):
        raise SystemExit(f"{asked} can't be had here: {execution.told(made)} took its place")
    return made


def _problem(ipc: int, steps: int, on: torch.device) -> tuple[Any, ...]:
    start = runtime.seeded(lambda: vector(CONVNET.build()), 0, "benchmark").to(on)
    target = start + 0.01
    x, labels = images(10 * ipc)
    drawn = plan(len(x), len(x), steps, DSA, stream(0, "benchmark"))
    return start, target, x.to(on), labels.to(on), torch.tensor(0.01, device=on), drawn


def _matching(asked: str, precision: str, ipc: int, steps: int, on: torch.device) -> Act:
    start, target, x, labels, lr, drawn = _problem(ipc, steps, on)
    work = execution.Work((3, 32, 32), 10, len(x), len(x), derivatives=True)
    step_functions = _step_functions(asked, precision, work, on)
    targets = probabilities(labels, 10).float()

    def act() -> Tensor:
        batches = SyntheticBatches(x, targets, drawn.to(on))
        adjoint.match(step_functions, start, target, batches, lr, lambda distances: steps)
        return batches.gradients()[0]

    return act


def _unroll(ipc: int, steps: int, on: torch.device) -> Act:
    start, target, x, labels, lr, drawn = _problem(ipc, steps, on)
    module, there = CONVNET.build().to(on), drawn.to(on)
    batches = list(zip(there.indices, there.augmentations, strict=True))
    return lambda: full_unroll(module, start, target, x, labels, lr, batches, steps)[0]


def _epoch(asked: str, precision: str, on: torch.device) -> Act:
    x, y = (part.to(on) for part in images(EPOCH[on.type]))
    work = execution.Work((3, 32, 32), 10, BATCH, len(x), short=len(x) % BATCH)
    step_functions, theta = _step_functions(asked, precision, work, on), vector(CONVNET.build()).to(on)
    options: dict[str, Any] = {"classes": 10, "batch": BATCH, "strategy": DSA}
    return lambda: train_epoch(
        step_functions, theta.clone(), Optimiser(0.01, 0.0, 0.0), x, y, generator=stream(0, "benchmark"), **options
    ).tolist()


def _plain_epoch(on: torch.device) -> Act:
    x, y = images(EPOCH[on.type])
    module = CONVNET.build().to(on)
    return lambda: train(module, x, y, 1, BATCH, lr=0.01, momentum=0.0, decay=0.0)


def _score(asked: str, precision: str, on: torch.device) -> Act:
    x, y = (part.to(on) for part in images(10))
    protocol = Protocol("exact", PASSES[on.type], 256, 0.9, 5e-4, DSA)
    step_functions = _step_functions(asked, precision, execution.Work((3, 32, 32), 10, 10, 10), on)
    key = (0, "benchmark", 0)
    start = fresh(CONVNET, key).to(on)
    return lambda: train_by_protocol(step_functions, start.clone(), x, y, 10, 0.01, protocol, key, lambda: False)


def _plain_score(on: torch.device) -> Act:
    x, y = (part.to(on) for part in images(10))
    module = CONVNET.build().to(on)
    return lambda: train(module, x, y, PASSES[on.type], 256, lr=0.01, momentum=0.9, decay=5e-4)


def rows(on: torch.device) -> Iterator[Row]:
    """All that is measured, the references last."""
    for precision in PRECISIONS:
        for asked in EXECUTIONS[on.type]:
            if asked == "eager" and precision != PRECISIONS[0]:
                continue
            for name, case in MATCHING.items():
                yield Row(f"matching, {name}", asked, precision, partial(_matching, asked, precision, *case, on))
            yield Row("an expert's epoch", asked, precision, partial(_epoch, asked, precision, on))
            yield Row("a network's training", asked, precision, partial(_score, asked, precision, on))
    for name, case in MATCHING.items():
        yield Row(f"matching, {name}", REFERENCE, PLAIN, partial(_unroll, *case, on))
    yield Row("an expert's epoch", REFERENCE, PLAIN, partial(_plain_epoch, on))
    yield Row("a network's training", REFERENCE, PLAIN, partial(_plain_score, on))


def measured(row: Row, on: torch.device, rounds: int) -> dict[str, Any]:
    """Seconds to prepare it, the median seconds of a round, and the peak of its memory on a GPU."""
    if row.execution == REFERENCE:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    else:
        execution.set_precision(row.precision)
    begun = time.perf_counter()
    before = torch.cuda.memory_allocated() if on.type == "cuda" else 0
    act = row.prepare()
    act()
    found: dict[str, Any] = {"prepared_s": round(time.perf_counter() - begun, 2)}
    if on.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    taken = [timed(act) for _ in range(rounds)]
    found["wall_s"] = round(median(wall for _, wall in taken), 5)
    found["cpu_s"] = round(median(cpu for cpu, _ in taken), 5)
    found["rounds_s"] = [round(wall, 5) for _, wall in taken]
    if on.type == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated() - before
    return found


def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:N or cpu.")] = "cuda",
    precision: Annotated[str, typer.Option(help="Only rows of this precision.")] = "",
    asked: Annotated[str, typer.Option("--execution", help="Only rows of this execution, or `reference`.")] = "",
    only: Annotated[str, typer.Option(help="Only rows whose names contain this.")] = "",
    rounds: Annotated[int, typer.Option(help="Rounds of each row.")] = 5,
    seconds: Annotated[float, typer.Option(help="Begin no further row after so many seconds.")] = float("inf"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, after every row.")] = None,
) -> None:
    """Measure each execution and precision, and print a line for each."""
    progress.configure("quiet")
    runtime.configure(None, deterministic=True)
    on = runtime.device(device)
    begun = time.monotonic()
    report: dict[str, Any] = {"machine": machine(on), "results": []}
    for row in rows(on):
        if only not in row.name or precision not in ("", row.precision) or asked not in ("", row.execution):
            continue
        if time.monotonic() - begun > seconds:
            break
        try:
            found = measured(row, on, rounds)
        except (UserError, torch.AcceleratorError) as error:
            raise SystemExit(f"{row.name}, {row.execution}, {row.precision}: {told(error)}") from None
        report["results"].append({"name": row.name, "execution": row.execution, "precision": row.precision, **found})
        peak = found.get("peak_bytes", 0) / 1e9
        line = f"{found['wall_s']:.4f} s, {peak:.2f} GB, prepared in {found['prepared_s']} s"
        typer.echo(f"{row.name:32} {row.execution:10} {row.precision:16} {line}")
        if json_file:
            json_file.write_text(json.dumps(report, indent=2) + "\n")
        gc.collect()
        if on.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    typer.run(main)
