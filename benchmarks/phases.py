"""`python -m benchmarks.phases FOLDER …`: what each phase of a long distillation gains, drawn over the iterations.

Each folder holds the results of a distillation, and each of them but the first began from the set of the one before it
(`attcli distill --from`). Snapshots are scored on the test images by fresh networks, at all of `--at`; what is in the
file of `--json` already is not scored again. The picture beside it also has the losses, which differ between phases.
"""

import json
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from attcli import progress, runtime
from attcli.settings import resolve
from attcli.settings.layers import names
from attcli.stages import evaluate
from attcli.stages.of_a_set import as_distilled
from attcli.stages.run import Run
from attcli.store import artefact, history, states, synthetic
from benchmarks.amp import smoothed
from benchmarks.timing import machine

AROUND = 10
"""Iterations on either side that a loss is averaged over, for the picture."""


def scored(folder: Path, file: Path, kind: str, scoring: dict[str, Any]) -> dict[str, Any]:
    """A snapshot's accuracies on the test images, by architecture."""
    changes = {**scoring, "runtime.artifacts": str(folder), "runtime.verbosity": "quiet"}
    origin = {**dict.fromkeys(names(), "default"), **dict.fromkeys(changes, "flag")}
    run = as_distilled(Run(resolve(changes, ignore_params=True).settings, origin=origin), file, file)
    progress.configure("quiet")
    runtime.configure(run.settings.runtime.threads, run.settings.runtime.deterministic)
    scores = evaluate.row(run, file, "test", [kind])["scores"]
    return {arch: {name: kinds[kind][name] for name in ("mean", "sd", "n")} for arch, kinds in scores.items()}


def about(folder: Path) -> dict[str, Any]:
    """What a phase is: its settings, the losses of its iterations, and what they are of."""
    header = synthetic.header(folder / "synthetic.h5")
    _, arrays = artefact.read(folder / "history.h5", history.KIND, history.MAKER)
    losses = [round(float(loss), 4) for loss in arrays["loss"]]
    return {"settings": header.settings["distill"], "iterations": len(losses), "loss": losses, "scores": {}}


def draw(file: Path, phases: list[dict[str, Any]], kind: str) -> None:
    """The figure, as PNG: the accuracy over the iterations of all phases, and the losses below it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    begins = [0, *accumulate(phase["iterations"] for phase in phases)]
    for position, (phase, begin) in enumerate(zip(phases, begins, strict=False)):
        colour, name = f"C{position}", phase["settings"]["objective"]
        points = sorted((begin + int(at), by_arch) for at, by_arch in phase["scores"].items())
        for arch, marker in zip(points[0][1] if points else (), "os^v", strict=False):
            found = [(at, by_arch[arch]) for at, by_arch in points]
            above.errorbar(
                [at for at, _ in found],
                [score["mean"] for _, score in found],
                [score["sd"] or 0 for _, score in found],
                color=colour,
                marker=marker,
                capsize=3,
                label=f"{arch}, {name}",
            )
        below.plot(begin + np.arange(phase["iterations"]), smoothed(phase["loss"], AROUND), color=colour, label=name)
    above.set(title=f"Test accuracy of the set ({kind})", ylabel="accuracy (%)")
    below.set(xlabel="iteration", ylabel=f"loss, mean of {2 * AROUND + 1}")
    for axes in (above, below):
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False)
        for begin in begins[1:-1]:
            axes.axvline(begin, color="grey", linewidth=1, linestyle=":")
    figure.savefig(file, dpi=150, metadata={"Software": None})


def main(
    folders: Annotated[list[Path], typer.Argument(help="The results of each phase, in their order.")],
    json_file: Annotated[Path, typer.Option("--json", help="Write the figures here, and the picture beside it.")],
    at: Annotated[str, typer.Option(help="PHASE:ITERATION of the snapshots, by commas; phases count from 0.")],
    kind: Annotated[str, typer.Option(help="What is scored of a snapshot: synthetic or ema.")] = "ema",
    archs: Annotated[str, typer.Option(help="Architectures of the networks that score.")] = "convnet",
    networks: Annotated[int, typer.Option(help="Networks of each architecture.")] = 2,
    epochs: Annotated[int, typer.Option(help="Passes over the set that each is trained for.")] = 300,
) -> None:
    """Score snapshots of all phases, and draw."""
    scoring: dict[str, Any] = {"evaluate.archs": archs, "evaluate.repeats": networks, "evaluate.epochs": epochs}
    kept = json.loads(json_file.read_text()) if json_file.exists() else {}
    if kept and kept["scoring"] != scoring | {"kind": kind}:
        raise typer.BadParameter(f"{json_file} was scored in another way ({kept['scoring']}); name another file")
    phases = [about(folder) for folder in folders]
    for phase, old in zip(phases, kept.get("phases", []), strict=False):
        losses = phase["loss"][: len(old["loss"])]
        same = old["settings"] == phase["settings"] and np.array_equal(old["loss"], losses, equal_nan=True)
        if not same and old["scores"]:
            raise typer.BadParameter(f"{json_file} has scores of other distillations than these; name another file")
        phase["scores"] = old["scores"]
    record: dict[str, Any] = {
        "what": "the phases of a long distillation, scored at some iterations",
        "machine": machine("auto"),
    }
    for place in at.split(","):
        which, iteration = map(int, place.split(":"))
        file = states.path_of(folders[which] / "snapshots", iteration)
        if str(iteration) not in phases[which]["scores"]:
            phases[which]["scores"][str(iteration)] = scored(folders[which], file, kind, scoring)
        typer.echo(f"{place}: {phases[which]['scores'][str(iteration)]}")
        record |= {"scoring": scoring | {"kind": kind}, "phases": phases}
        json_file.write_text(json.dumps(record) + "\n")
        draw(json_file.with_suffix(".png"), phases, kind)


if __name__ == "__main__":
    typer.run(main)
