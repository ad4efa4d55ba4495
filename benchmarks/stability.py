"""`python -m benchmarks.stability`: how often ATT and MTT survive learning rates that are off.

The images' and the student's initial learning rates are multiplied by every pair of FACTORS. Counted is the share of
runs that end within POINTS of the method's own best run, on validation images (ATT's claim is that it is stabler).
"""

import json
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from attcli.errors import DivergedError
from attcli.settings import resolve
from benchmarks.runs import scored
from benchmarks.timing import machine

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
POINTS = 2.0


def _base(method: str, dataset: str, ipc: int) -> dict[str, Any]:
    return {"distill.method": method, "prepare.dataset": dataset, "distill.ipc": ipc}


def _one(
    folder: Path, base: dict[str, Any], by_images: float, by_student: float, short: dict[str, Any]
) -> float | None:
    """The validation accuracy of one run; none where it diverged."""
    recipe = resolve(base, ignore_params=True).settings.distill
    changes = {
        **base,
        **short,
        "distill.lr_img": recipe.lr_img * by_images,
        "distill.lr_init": recipe.lr_init * by_student,
    }
    name = f"{base['distill.method']}-img{by_images:g}-student{by_student:g}"
    try:
        report = scored(folder, name, changes, "validation", ("synthetic",))
    except DivergedError:
        return None
    return float(report["convnet"]["synthetic"]["mean"])


def _draw(file: Path, results: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(results), 4), layout="constrained")
    for axes, (method, found) in zip(figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
        grid = [[found["accuracy"][f"{a:g}/{b:g}"] or 0.0 for b in FACTORS] for a in FACTORS]
        axes.imshow(grid, vmin=0, vmax=100, cmap="viridis")
        for row, column in product(range(len(FACTORS)), repeat=2):
            axes.text(column, row, f"{grid[row][column]:.0f}", ha="center", va="center", color="white")
        axes.set_xticks(range(len(FACTORS)), [f"{factor:g}" for factor in FACTORS])
        axes.set_yticks(range(len(FACTORS)), [f"{factor:g}" for factor in FACTORS])
        axes.set(xlabel="student's learning rate, times", ylabel="images' learning rate, times")
        axes.set_title(f"{method}: {100 * found['share']:.0f} % within {POINTS:g} points of its best")
    figure.savefig(file, dpi=150)


def main(
    methods: Annotated[str, typer.Option(help="Methods.")] = "mtt,att",
    dataset: Annotated[str, typer.Option(help="Dataset.")] = "digits",
    ipc: Annotated[int, typer.Option(help="Images per class.")] = 1,
    epochs: Annotated[int, typer.Option(help="Passes of each network that scores.")] = 300,
    repeats: Annotated[int, typer.Option(help="Networks that score a run.")] = 3,
    folder: Annotated[Path, typer.Option(help="Where results are kept; an interrupted test goes on.")] = Path(
        "stability"
    ),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, and a picture.")] = None,
) -> None:
    """Run the grid of both methods and say the share of runs near each one's own best."""
    results: dict[str, Any] = {}
    short = {"evaluate.epochs": epochs, "evaluate.repeats": repeats}
    for method in methods.split(","):
        accuracy: dict[str, float | None] = {}
        for by_images, by_student in product(FACTORS, repeat=2):
            found = _one(folder, _base(method, dataset, ipc), by_images, by_student, short)
            accuracy[f"{by_images:g}/{by_student:g}"] = found
            typer.echo(f"{method:6} images x{by_images:<4g} student x{by_student:<4g} {found}")
        reached = [value for value in accuracy.values() if value is not None]
        best = max(reached, default=float("nan"))  # all runs may have diverged
        near = sum(value >= best - POINTS for value in reached)
        results[method] = {"best": best if reached else None, "share": near / len(accuracy), "accuracy": accuracy}
        typer.echo(f"{method}: {near} of {len(accuracy)} runs within {POINTS:g} points of its best, {best:.2f}")
        if json_file:
            about = {"dataset": dataset, "ipc": ipc, "epochs": epochs, "repeats": repeats, "split": "validation"}
            json_file.write_text(
                json.dumps({"machine": machine("auto"), "about": about, "results": results}, indent=2) + "\n"
            )
    if json_file:
        _draw(json_file.with_suffix(".png"), results)


if __name__ == "__main__":
    typer.run(main)
