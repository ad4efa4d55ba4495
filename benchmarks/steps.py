"""`python -m benchmarks.steps [CASES]`: a call of the step functions when they are compiled, and when they are not.

A case is NETWORK:BATCH:KIND. Its kind is `g`, the gradient that trains experts and scored networks, or `h`, the
derivatives of a matching step. On a GPU, compiled steps are compared with CUDA graphs of eager ones, on a CPU with
eager ones; and precisions with each other, where several are named. Milliseconds by the clock on a GPU, of CPU time on
a CPU; and the seconds that preparing took: compiling, or loading what torch compiled before.
"""

import json
import time
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

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


class Way(NamedTuple):
    """A way of computing a step."""

    precision: str
    asked: str


def rows(case: str, device: torch.device, precisions: list[str]) -> list[dict[str, Any]]:
    """The figures of a case, a row for each precision. Rounds alternate among all that is compared."""
    name, batch, kind = case.split(":")
    network = Architecture(name, 3, CLASSES, SIDE, {})
    work = Work((3, SIDE, SIDE), CLASSES, int(batch), int(batch), derivatives=kind == "h")
    point = Point.near(network.build, work, int(batch), device)
    arguments = (point.theta, point.x, point.p, point.w)

    def repeat(functions: StepFunctions) -> None:
        for _ in range(CALLS):
            if kind == "h":
                functions.derivatives(*arguments, point.lam)
            else:
                functions.gradient(*arguments)

    made: dict[Way, StepFunctions] = {}
    ready: dict[Way, float] = {}
    for precision, asked in product(precisions, ("compiled", "graph" if device.type == "cuda" else "eager")):
        execution.set_precision(precision)
        student = execution.student(network.build, device, precision)
        begun = time.perf_counter()
        functions = execution.step_functions(student, network.build, work, device, asked, halving=False)
        way = Way(precision, asked)
        made[way], ready[way] = functions, time.perf_counter() - begun
        if MADE_OF[asked] not in (told := execution.told(functions)):
            raise SystemExit(f"{case}: {asked} can't be had here, {told} took its place")
        repeat(functions)
    rounds: dict[Way, list[float]] = {way: [] for way in made}
    for _ in range(ROUNDS):
        for way, functions in made.items():
            execution.set_precision(way.precision)
            cpu, wall = timed(partial(repeat, functions))
            rounds[way].append(1000 * (wall if device.type == "cuda" else cpu) / CALLS)
    figures = {
        way: {"ready_s": round(ready[way], 1), "ms": median(taken), "rounds_ms": [round(t, 3) for t in taken]}
        for way, taken in rounds.items()
    }
    return [
        {
            "case": case,
            "precision": precision,
            **{way.asked: figures[way] for way in made if way.precision == precision},
        }
        for precision in precisions
    ]


def main(
    cases: Annotated[str, typer.Argument(help="NETWORK:BATCH:KIND, separated by commas.")] = CASES,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, tf32 or bfloat16; or several, with commas.")] = "tf32",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, after every row.")] = None,
) -> None:
    """Measure, and write the record."""
    progress.configure("quiet")
    runtime.configure(None, deterministic=True)
    on = runtime.device(device)
    report: dict[str, Any] = {"machine": machine(on), "results": []}
    for case in cases.split(","):
        measured = rows(case, on, precision.split(","))
        report["results"] += measured
        for row in measured:
            typer.echo(json.dumps(row))
        if json_file:
            json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
