"""`python -m benchmarks.matrix [--dataset digits] [--ipc 1]`: every method on the same images and experts."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from attcli.options import VARIANTS
from attcli.settings.layers import assignment
from benchmarks.runs import scored
from benchmarks.timing import machine

METHODS = ("mtt", "ftd", "datm", "att", "att+datm")


def _spread(values: list[float]) -> float | None:
    return round(stdev(values), 2) if len(values) > 1 else None


def _summary(reports: list[dict[str, Any]], arch: str, kind: str) -> dict[str, Any]:
    """The mean over distillations; the spreads over networks (mean of each distillation's), and over distillations."""
    found = [report[arch][kind] for report in reports if kind in report[arch]]
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
    """Distil with every method and score the last set of each, beside random real images; all on the test images.

    The random images are scored with the first distillation of the first method, whose student's learning rate is one
    of the three that they are tried with.
    """
    given = dict(assignment(text) for text in sets or [])
    rows: dict[str, Any] = {arch: {} for arch in archs.split(",")}
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
            first = not any(rows.values()) and not reports
            name = f"{dataset}-ipc{ipc}-{method}-seed{seed}"
            reports.append(scored(folder, name, changes, "test", (*VARIANTS, "random") if first else VARIANTS))
        for arch, row in rows.items():
            added = {} if row else {"random": {"real": _summary(reports, arch, "random")}}
            added[method] = {kind: _summary(reports, arch, kind) for kind in VARIANTS}
            for name, entries in added.items():
                shown = "  ".join(_shown(kind, entry) for kind, entry in entries.items())
                typer.echo(f"{arch:10} {name:10} {shown}")
            row.update(added)
        if json_file:
            about = {"dataset": dataset, "ipc": ipc, "set": given}
            found = {"machine": machine(given.get("runtime.device", "auto")), "about": about, "results": rows}
            json_file.write_text(json.dumps(found, indent=2) + "\n")


def _shown(kind: str, entry: dict[str, Any]) -> str:
    spreads = [
        f"{name} {entry[f'sd_{name}']}" for name in ("networks", "distillations") if entry[f"sd_{name}"] is not None
    ]
    return f"{kind} {entry['mean']:.2f} (sd {', '.join(spreads)})"


if __name__ == "__main__":
    typer.run(main)
