"""`python -m benchmarks.steps [CASES]`: a call of the step functions when they are compiled, and when they are not.

A case is NETWORK:BATCH:KIND. Its kind is `g`, the gradient that trains experts and scored networks, or `h`, the
derivatives of a matching step. On a GPU, compiled steps are compared with CUDA graphs of eager ones, on a CPU with
eager ones. Milliseconds by the clock, and the seconds that preparing took: compiling, or loading what torch compiled
before.
"""

import json
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from attcli import execution, progress, runtime
from attcli.execution import Point, Work
from attcli.matching.step_functions import StepFunctions
from attcli.networks import Architecture
from benchmarks.timing import machine, timed

CASES = "convnet:10:h,convnet:100:h,convnet:256:g,convnet:512:g,alexnet:256:g,vgg11:256:g"
SIDE, CLASSES = 32, 10
CALLS, ROUNDS = 20, 10
MADE_OF = {"compiled": "Compiled", "graph": "Graphed", "eager": "Student"}
"""What each execution calls."""


def row(case: str, device: torch.device, precision: str) -> dict[str, Any]:
    """The figures of a case. Rounds alternate between the two executions."""
    name, batch, kind = case.split(":")
    network = Architecture(name, 3, CLASSES, SIDE, {})
    work = Work((3, SIDE, SIDE), CLASSES, int(batch), int(batch), derivatives=kind == "h")
    student = execution.student(network.build, device, precision)
    point = Point.near(network.build, work, int(batch), device)
    arguments = (point.theta, point.x, point.p, point.w)

    def repeat(functions: StepFunctions) -> None:
        for _ in range(CALLS):
            if kind == "h":
                functions.derivatives(*arguments, point.lam)
            else:
                functions.gradient(*arguments)

    made: dict[str, StepFunctions] = {}
    ready: dict[str, float] = {}
    for asked in ("compiled", "graph" if device.type == "cuda" else "eager"):
        begun = time.perf_counter()
        made[asked] = execution.step_functions(student, network.build, work, device, asked, halving=False)
        ready[asked] = time.perf_counter() - begun
        if MADE_OF[asked] not in (told := execution.told(made[asked])):
            raise SystemExit(f"{case}: {asked} can't be had here, {told} took its place")
        repeat(made[asked])
    rounds: dict[str, list[float]] = {asked: [] for asked in made}
    for _ in range(ROUNDS):
        for asked, functions in made.items():
            rounds[asked].append(1000 * timed(partial(repeat, functions))[1] / CALLS)
    figures = {
        asked: {"ready_s": round(ready[asked], 1), "ms": median(taken), "rounds_ms": [round(t, 3) for t in taken]}
        for asked, taken in rounds.items()
    }
    return {"case": case, "precision": precision, **figures}


def main(
    cases: Annotated[str, typer.Argument(help="NETWORK:BATCH:KIND, separated by commas.")] = CASES,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, tf32 or bfloat16.")] = "tf32",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, after every row.")] = None,
) -> None:
    """Measure, and write the record."""
    progress.configure("quiet")
    runtime.configure(None, deterministic=True)
    execution.set_precision(precision)
    on = runtime.device(device)
    report: dict[str, Any] = {"machine": machine(on), "results": []}
    for case in cases.split(","):
        report["results"].append(row(case, on, precision))
        typer.echo(json.dumps(report["results"][-1]))
        if json_file:
            json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
