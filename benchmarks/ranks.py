"""`python -m benchmarks.ranks`: what several processes gain on buffer, distill and evaluate.

Each stage is run by the command line in a fresh folder, by one process and by several, in turn; what it needs was made
before. The wall clock of the whole command is compared, with the start of its processes, as they share one machine; so
the cores have to be idle. Each process computes with one thread. The results have to be the same bytes.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks.timing import machine

SETTINGS = {
    "prepare.dataset": "cifar10",
    "prepare.limit_per_class": 100,
    "prepare.normalise": "literature",
    "network.width": 64,
    "buffer.experts": 4,
    "buffer.epochs": 8,
    "distill.ipc": 1,
    "distill.spans": 2,
    "distill.syn_steps": 20,
    "distill.expert_epochs": 2,
    "distill.max_start_epoch": 2,
    "distill.iterations": 40,
    "evaluate.repeats": 4,
    "evaluate.epochs": 50,
    "evaluate.baselines": "[]",
    "runtime.execution": "eager",
    "runtime.threads": 1,
}
STAGES = ("buffer", "distill", "evaluate")
RESULTS = {"buffer": "experts/*.h5", "distill": "synthetic.h5", "evaluate": "scores.json"}


def main(
    data_dir: Annotated[Path, typer.Option(help="Where CIFAR-10 lies.")] = Path("data"),
    processes: Annotated[int, typer.Option(help="How many are compared with one.")] = 2,
    rounds: Annotated[int, typer.Option(help="Rounds, of which medians are taken.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Time the stages by one process and by several."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _run("prepare", folder / "made", data_dir, 1)
        figures = {}
        for stage in STAGES:
            figures[stage] = _compared(stage, folder, data_dir, processes, rounds)
            shown = figures[stage]
            typer.echo(f"{stage:9} {shown['one_s']:7.1f} s  {shown['several_s']:7.1f} s  {shown['speed_up']:.2f} times")
            if json_file:
                about = {
                    "machine": {**machine("auto"), "threads": 1},
                    "settings": SETTINGS,
                    "processes": processes,
                }
                json_file.write_text(json.dumps({**about, "rounds": rounds, "stages": figures}, indent=2) + "\n")


def _compared(stage: str, folder: Path, data_dir: Path, processes: int, rounds: int) -> dict[str, Any]:
    """The seconds of a stage by one process and by several, and how many times faster these are."""
    taken: dict[int, list[float]] = {1: [], processes: []}
    digests = set()
    for _ in range(rounds):
        for count, seconds in taken.items():
            copy = folder / f"{stage}-{count}"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(folder / "made", copy)
            seconds.append(_run(stage, copy, data_dir, count))
            digests.add(_digest(copy / "artifacts", RESULTS[stage]))
    if len(digests) > 1:
        raise SystemExit(f"{stage}: several processes have made other results than one")
    shutil.rmtree(folder / "made")
    shutil.move(folder / f"{stage}-1", folder / "made")
    one, several = median(taken[1]), median(taken[processes])
    pairs = zip(taken[1], taken[processes], strict=True)
    return {
        "one_s": round(one, 2),
        "several_s": round(several, 2),
        "speed_up": round(median(a / b for a, b in pairs), 3),
    }


def _run(stage: str, folder: Path, data_dir: Path, processes: int) -> float:
    """Run a stage by so many processes; the seconds of the whole command."""
    settings = {**SETTINGS, "runtime.artifacts": folder / "artifacts", "runtime.work_dir": folder / ".attcli"}
    settings |= {"runtime.data_dir": data_dir.resolve(), "runtime.workers": processes, "runtime.verbosity": "quiet"}
    if stage == "prepare":
        settings = {name: value for name, value in settings.items() if name != "runtime.workers"}
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    words = [sys.executable, "-m", "attcli", stage, *sets]
    begun = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    # In a folder without params.yaml, which would decide what is not set here.
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL, cwd=folder.parent)
    return time.perf_counter() - begun


def _digest(folder: Path, pattern: str) -> str:
    """The digest of the files of a result."""
    total = sha256()
    for path in sorted(folder.glob(pattern)):
        total.update(path.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    typer.run(main)
