"""`python -m benchmarks.matrix [--dataset digits] [--ipc 1]`: every method on the same images and experts."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from attcli.settings.layers import assignment
from benchmarks.runs import scored
from benchmarks.timing import machine

METHODS = ("mtt", "ftd", "datm", "att", "att+datm")


def _spread(values: list[float]) -> float | None:
    return round(stdev(values), 2) if len(values) > 1 else None


def _summary(reports: list[dict[str, Any]], arch: str, kind: str) -> dict[str, Any]:
    """The mean over distillations; the spreads over networks (mean of each distillation's), and over distillations."""
    found = [report["scores"][arch][kind] for report in reports]
    within = [entry["sd"] for entry in found if entry["sd"] is not None]
    return {
        "mean": round(mean(entry["mean"] for entry in found), 2),
        "sd_networks": round(mean(within), 2) if within else None,
        "sd_distillations": _spread([entry["mean"] for entry in found]),
        "networks": found[0]["n"],
        "distillations": len(found),
    }


def main(
    dataset: Annotated[str, typer.Option(help="Dataset.")] = "digits",
    ipc: Annotated[int, typer.Option(help="Images per class.")] = 1,
    methods: Annotated[str, typer.Option(help="Methods.")] = ",".join(METHODS),
    archs: Annotated[str, typer.Option(help="Architectures that are trained on the sets.")] = "convnet,vgg11",
    seeds: Annotated[int, typer.Option(help="Distillations of each method.")] = 3,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Settings of all runs, as key=value.")] = None,
    folder: Annotated[Path, typer.Option(help="Where results are kept; an interrupted matrix goes on.")] = Path(
        "matrix"
    ),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Distil with every method and score all sets beside random real images."""
    given = dict(assignment(text) for text in sets or [])
    rows: dict[str, Any] = {}
    for method in methods.split(","):
        reports = []
        for seed in range(seeds):
            changes = {
                "distill.method": method,
                "prepare.dataset": dataset,
                "distill.ipc": ipc,
                "distill.seed": seed,
                "evaluate.archs": archs,
                **given,
            }
            reports.append(scored(folder, f"{method}-{dataset}-ipc{ipc}-seed{seed}", changes))
        for arch in archs.split(","):
            for kind in ("synthetic", "ema", "random"):
                rows.setdefault(arch, {}).setdefault(method, {})[kind] = _summary(reports, arch, kind)
            shown = "  ".join(f"{kind} {entry['mean']:.2f}" for kind, entry in rows[arch][method].items())
            typer.echo(f"{method:10} {arch:10} {shown}")
        if json_file:
            about = {"dataset": dataset, "ipc": ipc, "set": given}
            found = {"machine": machine("cpu"), "about": about, "results": rows}
            json_file.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
