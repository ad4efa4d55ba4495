"""`python -m benchmarks.baselines [--dataset digits] [--ipc 1]`: real images in the place of a set, by one protocol."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from attcli import registry
from attcli.settings.layers import assignment
from benchmarks.runs import scored
from benchmarks.timing import machine

ORDER = ("random", "herding", "k-center", "forgetting", "whole")


def _summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean over seeds, their spread, and the spread over one seed's networks (mean of each seed's)."""
    within = [entry["sd"] for entry in entries if entry["sd"] is not None]
    return {
        "mean": round(mean(entry["mean"] for entry in entries), 2),
        "sd_networks": round(mean(within), 2) if within else None,
        "sd_seeds": round(stdev(entry["mean"] for entry in entries), 2) if len(entries) > 1 else None,
        "networks": entries[0]["n"],
        "seeds": len(entries),
    }


def main(
    dataset: Annotated[str, typer.Option(help="Dataset.")] = "digits",
    ipc: Annotated[int, typer.Option(help="Images per class.")] = 1,
    baselines: Annotated[str, typer.Option(help="Baselines.")] = ",".join(ORDER),
    archs: Annotated[str, typer.Option(help="Architectures that are trained on the images.")] = "convnet",
    seeds: Annotated[int, typer.Option(help="Evaluations, each with its own selecting network and images.")] = 3,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Settings of all runs, as key=value.")] = None,
    folder: Annotated[Path, typer.Option(help="Where results are kept; an interrupted run goes on.")] = Path("matrix"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Score baselines, on test images, with the protocol and learning rates of an ATT set, which is distilled first.

    One of the three rates that a coreset is tried with is the one learned with that set, as in the matrix of methods,
    whose folder and runs this shares.
    """
    kinds = tuple(registry.known("baseline", name, registry.names("baseline")) for name in baselines.split(","))
    settings = dict(assignment(text) for text in sets or [])
    entries: dict[str, dict[str, list[dict[str, Any]]]] = {
        arch: {kind: [] for kind in kinds} for arch in archs.split(",")
    }
    for seed in range(seeds):
        changes = {
            "distill.method": "att",
            "prepare.dataset": dataset,
            "distill.ipc": ipc,
            "distill.seed": 0,
            "evaluate.archs": archs,
            "evaluate.seed": seed,
            **settings,
        }
        report = scored(folder, f"{dataset}-ipc{ipc}-att-seed0", changes, "test", kinds)
        for arch, row in entries.items():
            for kind in kinds:
                row[kind].append(report[arch][kind])
                typer.echo(f"{arch:10} seed {seed} {kind:10} {report[arch][kind]['mean']:.2f}")
    results = {arch: {kind: _summary(row[kind]) for kind in kinds} for arch, row in entries.items()}
    for arch, row in results.items():
        for kind, entry in row.items():
            typer.echo(f"{arch:10} {kind:10} {entry['mean']:.2f} (sd over seeds {entry['sd_seeds']})")
    if json_file:
        about = {"dataset": dataset, "ipc": ipc, "set": settings}
        report = {"machine": machine("auto"), "about": about, "results": results}
        json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
