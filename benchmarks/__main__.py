"""`python -m benchmarks [--rounds N] [--json FILE]`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import matching
from benchmarks.timing import machine


def main(
    rounds: Annotated[int, typer.Option(help="Alternating rounds of each case.")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure the engine against the full unroll; below 1, ours takes less."""
    report = {"machine": machine(), "results": matching.run(rounds)}
    for result in report["results"]:
        ratios = "  ".join(f"{kind} {result[f'{kind}_ratio']:.2f}" for kind in ("cpu", "wall", "memory"))
        typer.echo(f"{result['name']:24} {ratios}")
    if json_file:
        json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
