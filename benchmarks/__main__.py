"""`python -m benchmarks [matching|experts|evaluation|store] [--device …] [--json FILE]`."""

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Annotated

import torch
import typer

from attcli import progress, runtime
from benchmarks.timing import machine

SUITES = ("matching", "experts", "evaluation", "store")


def main(
    suites: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(SUITES)}; default: all.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "cpu",
    only: Annotated[str, typer.Option(help="Only cases whose names contain this.")] = "",
    rounds: Annotated[
        int | None, typer.Option(help="Alternating rounds of each case; default: the case's own.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, after every suite.")] = None,
) -> None:
    """Measure against plainly written references; below 1, ours takes less."""
    progress.configure("normal")
    runtime.configure(None, deterministic=True)
    on = runtime.device(device)
    report = {"machine": machine(on), "results": []}
    report["machine"]["load"] = round(os.getloadavg()[0], 2)
    for suite in suites or SUITES:
        if suite not in SUITES:
            raise typer.BadParameter(f"unknown suite {suite!r}; choose from {', '.join(SUITES)}")
        for result in import_module(f"benchmarks.{suite}").run(str(on), rounds, only):
            report["results"].append(result)
            kinds = [kind for kind in ("cpu", "wall", "memory") if f"{kind}_ratio" in result]
            typer.echo(f"{result['name']:32} " + "  ".join(f"{kind} {result[f'{kind}_ratio']:.2f}" for kind in kinds))
            if json_file:
                json_file.write_text(json.dumps(report, indent=2) + "\n")
        torch._dynamo.reset()


if __name__ == "__main__":
    typer.run(main)
