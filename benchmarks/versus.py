"""`python -m benchmarks.versus`: ours against plain references, or this checkout against an older one.

Each side runs in a process of its own, the sides in turn for several rounds. The references are measured with the
allocator's defaults, as a plain script has them, and with freed memory kept, as attcli has it.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from benchmarks.timing import machine

HERE = Path(__file__).parents[1]
ROWS = ("matching", "expert", "scoring")


class Side:
    """A worker process."""

    def __init__(self, checkout: Path, row: str, who: str, allocator: str) -> None:
        script = Path(__file__).with_name("worker.py")
        command = [sys.executable, str(script), str(checkout), row, who, allocator]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while self._line() != "ready":
            pass
        self.times: list[tuple[float, float]] = []

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a worker ended; its error stands above")
        return line.strip()

    def round(self) -> None:
        """One more measurement."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        cpu, wall = self._line().split()
        self.times.append((float(cpu), float(wall)))

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def medians(self) -> dict[str, float]:
        """CPU and wall seconds."""
        return {f"{kind}_s": round(median(t[i] for t in self.times), 4) for i, kind in enumerate(("cpu", "wall"))}


def compare(row: str, sides: dict[str, Side], rounds: int) -> dict[str, Any]:
    """All sides in turn; the ratio of the first one's CPU and wall time to each other's, round by round."""
    for _ in range(rounds):
        for side in sides.values():
            side.round()
    first, *others = sides
    report: dict[str, Any] = {"row": row, "rounds": rounds, **{name: side.medians() for name, side in sides.items()}}
    for other in others:
        pairs = list(zip(sides[first].times, sides[other].times, strict=True))
        for i, kind in enumerate(("cpu", "wall")):
            report[f"{kind}_ratio_to_{other}"] = round(median(a[i] / b[i] for a, b in pairs), 4)
    for side in sides.values():
        side.close()
    return report


def main(
    other: Annotated[Path | None, typer.Option(help="An older checkout, to compare ours with.")] = None,
    rows: Annotated[str, typer.Option(help=f"Of {', '.join(ROWS)}.")] = ",".join(ROWS),
    rounds: Annotated[int, typer.Option(help="Rounds of each side.")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure; below 1, ours takes less."""
    reports: list[dict[str, Any]] = []
    for row in rows.split(","):
        sides = {"ours": Side(HERE, row, "ours", "kept")}
        if other is not None:
            sides["before"] = Side(other, row, "ours", "kept")
        else:
            sides["reference"] = Side(HERE, row, "reference", "default")
            sides["reference_kept"] = Side(HERE, row, "reference", "kept")
        reports.append(compare(row, sides, rounds))
        typer.echo(json.dumps(reports[-1]))
        if json_file:
            report = {"machine": machine(torch.device("cpu")), "results": reports}
            json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
