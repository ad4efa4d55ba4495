"""`python -m benchmarks.patience [PROBLEM …]`: what distill.patience saves, and how often it matches another step.

For each problem, ATT distils a set with all steps of the student in every iteration. From its history follows which
step each patience would have matched in the same iterations, from the same state. The CPU time is that of some more
iterations, the same ones with every patience, in alternating rounds; medians over the rounds. Steps are eager.
"""

import json
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from attcli import progress, runtime
from attcli.matching import select
from attcli.settings import resolve
from attcli.stages import distill, inputs, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, history, states
from benchmarks.coded import SHARED, VARIANTS
from benchmarks.timing import machine, timed

PATIENCE = (None, 5, 10, 20)
COMMON = {"runtime.execution": "eager", "runtime.threads": 1, "runtime.verbosity": "quiet"}
"""Settings of all runs."""

PROBLEMS: dict[str, dict[str, Any]] = {
    "digits": {
        "distill.method": "att",
        "prepare.dataset": "digits",
        "distill.ipc": 1,
        "buffer.experts": 4,
        "distill.iterations": 300,
    },
    "digits-long": {
        "distill.method": "att",
        "prepare.dataset": "digits",
        "distill.ipc": 1,
        "buffer.experts": 4,
        "distill.iterations": 100,
        "distill.syn_steps": 120,
        "distill.lr_init": 0.02,
    },
    "cifar10-excerpt": {**SHARED, **VARIANTS["pixels"], "distill.iterations": 100},
}
"""By the recipe, a student on the digits has hardly more steps than it needs; in digits-long it has."""


def settled(distances: NDArray[np.float32], metric: str, patience: int | None) -> tuple[int, int]:
    """The step that is matched where the student's training has these distances (N_S,), and the steps it takes."""
    row = torch.from_numpy(distances).expand(2, -1)
    steps = row.shape[1]
    if patience is not None:
        ends = (n for n in range(1, steps + 1) if select.without_hope(row[:, :n], metric, patience))
        steps = next(ends, steps)
    return select.nearest(row[:, :steps], metric), steps


def matched(path: Path, patience: int | None) -> dict[str, Any]:
    """How often a patience matches another step than the whole training, in the iterations of a history."""
    header, arrays = artefact.read(path, history.KIND, history.MAKER)
    metric = header.settings["distill"]["select_metric"]
    found = [settled(row, metric, patience) for row in arrays[metric]]
    differing = int(sum(step != kept for (step, _), kept in zip(found, arrays["step"], strict=True)))
    return {
        "iterations": len(found),
        "other_step": differing,
        "other_step_percent": round(100 * differing / len(found), 2),
        "steps_taken": round(float(np.mean([steps for _, steps in found])), 1),
        "step_matched": round(float(np.mean([step for step, _ in found])), 1),
    }


def told(run: str) -> dict[str, Any]:
    """How often each patience matches another step in the history of an earlier run (NAME=FILE), without its cost."""
    name, _, file = run.partition("=")
    path = Path(file)
    header = artefact.header(path, history.KIND, history.MAKER)
    about = {"name": name, "method": header.about["method"]}
    steps = header.settings["distill"]["syn_steps"]
    return {**about, "syn_steps": steps, "patience": {str(p or 0): matched(path, p) for p in PATIENCE}}


def row(name: str, folder: Path, data_dir: Path, rounds: int, count: int) -> dict[str, Any]:
    """A problem's figures: for each patience CPU seconds of an iteration, and how often it matches another step."""
    places = {"runtime.artifacts": folder / name, "runtime.work_dir": folder / ".attcli", "runtime.data_dir": data_dir}
    flags = {**PROBLEMS[name], **COMMON, **{key: str(place) for key, place in places.items()}}
    run = Run(resolve(flags, ignore_params=True).settings)
    progress.configure("quiet")
    runtime.configure(run.settings.runtime.threads, run.settings.runtime.deterministic)
    pipeline.distill(run)
    data = inputs.read_dataset(run)
    with closing(inputs.open_experts(run, data)) as trajectories:
        state = states.read(states.snapshots(run.snapshots)[-1], data.normaliser)
        acts = {}
        for patience in PATIENCE:
            changed = resolve({**flags, "distill.patience": patience}, ignore_params=True).settings
            loop, begun = distill.begin(Run(changed), data, trajectories, state)
            acts[patience] = _iterations(loop, begun, count)
        taken: dict[int | None, list[float]] = {patience: [] for patience in PATIENCE}
        for turn in range(rounds):
            for patience in (*PATIENCE[turn % len(PATIENCE) :], *PATIENCE[: turn % len(PATIENCE)]):
                taken[patience].append(timed(acts[patience])[0] / count)
    patiences = {
        str(patience or 0): {
            "cpu_s": round(median(taken[patience]), 4),
            "cpu_ratio": round(median(a / b for a, b in zip(taken[patience], taken[None], strict=True)), 3),
            **matched(run.history, patience),
        }
        for patience in PATIENCE
    }
    steps = run.settings.distill.syn_steps
    return {"name": name, "syn_steps": steps, "timed": count, "rounds": rounds, "patience": patiences}


def _iterations(loop: distill.Loop, state: states.State, count: int) -> Any:
    """Makes `count` iterations from a state, always the same ones; their draws are made before."""
    drawn = [loop.spans.ahead(state.iteration + i) for i in range(count)]

    def act() -> None:
        for draws in drawn:
            loop.iterate(state, draws)

    return act


def main(
    problems: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(PROBLEMS)}; default: all.")] = None,
    rounds: Annotated[int, typer.Option(help="Alternating rounds.")] = 5,
    count: Annotated[int, typer.Option(help="Iterations that are timed in a round.")] = 8,
    folder: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path("patience"),
    data_dir: Annotated[Path, typer.Option(help="Where CIFAR-10 lies.")] = Path("data"),
    histories: Annotated[
        list[str] | None, typer.Option("--history", help="An earlier run's history.h5, as NAME=FILE; may be repeated.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, after every row.")] = None,
) -> None:
    """Measure, and write the record. Of earlier runs' histories it says only how often another step is matched."""
    what = "CPU time of an iteration of ATT with distill.patience, and how often another step is matched"
    record: dict[str, Any] = {"what": what, "machine": machine("auto"), "results": []}
    record["histories"] = [told(run) for run in histories or []]
    for name in problems or PROBLEMS:
        record["results"].append(row(name, folder, data_dir, rounds, count))
        typer.echo(json.dumps(record["results"][-1], indent=2))
        if json_file:
            json_file.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
