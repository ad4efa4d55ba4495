"""`python -m benchmarks.amp`: ATT's accumulated mismatching problem, drawn for several methods in one figure.

Every method distils the digits with the same numbers of steps and epochs and the same learning rates; the student has
more steps than it needs. Drawn are, over the second half of the iterations: the mean distance to the target along the
student's steps, in units of that after the first step, and how often the nearest step comes so many steps or more
before the last. And over all iterations, the nearest step (ECCV 2024, figures 1, 2, 4 and 5).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from attcli import progress, registry, runtime
from attcli.settings import resolve
from attcli.stages import pipeline
from attcli.stages.diagnose import nearest
from attcli.stages.run import Run
from attcli.store import artefact, history
from benchmarks.timing import machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = ("mtt", "ftd", "datm", "mct", "pad", "att")
"""In the order of the figure; one that this version does not have is left out."""

SHARED: dict[str, Any] = {
    "prepare.dataset": "digits",
    "prepare.normalise": "standardise",
    "prepare.validation": 200,
    "network.depth": 2,
    "network.width": 32,
    "buffer.experts": 4,
    "buffer.epochs": 8,
    "buffer.lr": 0.02,
    "buffer.batch": 64,
    "buffer.augment": "crop_scale_rotate",
    "distill.ipc": 1,
    "distill.iterations": 60,
    "distill.syn_steps": 80,
    "distill.expert_epochs": 3,
    "distill.min_start_epoch": 0,
    "distill.max_start_epoch": 3,
    "distill.current_max_start_epoch": 1,
    "distill.expansion_end": 50,
    "distill.augment": "crop_scale_rotate",
    "distill.select_metric": "l1",
    "distill.max_loss": None,
    "distill.label_epoch": 8,
    "distill.lr_img": 30.0,
    "distill.lr_labels": 1.0,
    "distill.lr_init": 0.02,
    "distill.lr_lr": 1e-6,
    "distill.batch_syn": None,
    "distill.save_every": 100,
    "runtime.execution": "eager",
    "runtime.verbosity": "quiet",
}
AROUND = 5
"""Iterations on either side that the nearest step is averaged over, for the picture."""


def figures(distances: NDArray[np.float32], matched: NDArray[np.int64]) -> dict[str, Any]:
    """What is drawn of a method, from its distances (iterations, N_S) and the steps that it matched (iterations,)."""
    late = distances[len(distances) // 2 :]
    steps, optimum = distances.shape[1], nearest(distances)
    missed = steps - optimum[len(distances) // 2 :]
    return {
        "distance": [round(float(d), 4) for d in np.nanmean(late / late[:, :1], axis=0)],
        "share_of_mismatches": [round(float((missed >= gamma).mean()), 4) for gamma in range(1, steps)],
        "nearest_step": optimum.tolist(),
        "matched_step": matched.tolist(),
    }


def row(method: str, folder: Path, iterations: int, steps: int) -> dict[str, Any]:
    """A method's figures, from a run of it; what is there is not repeated."""
    flags = {**SHARED, "distill.method": method, "distill.iterations": iterations, "distill.syn_steps": steps}
    flags |= {"runtime.artifacts": str(folder / method), "runtime.work_dir": str(folder / ".attcli")}
    run = Run(resolve(flags, ignore_params=True).settings)
    progress.configure("quiet")
    runtime.configure(run.settings.runtime.threads, run.settings.runtime.deterministic)
    pipeline.distill(run)
    _, arrays = artefact.read(run.history, history.KIND, history.MAKER)
    return figures(arrays["l1"], arrays["step"])


def draw(file: Path, rows: dict[str, dict[str, Any]]) -> None:
    """The figure, as PNG: three plots, a line for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.4), layout="constrained")
    along, mismatches, course = figure.subplots(1, 3)
    for position, (method, found) in enumerate(rows.items()):
        dashes = (0, (4, 2)) if position % 2 else "-"  # so that lines on each other both show
        style: dict[str, Any] = {"color": f"C{position}", "label": method, "linewidth": 2, "linestyle": dashes}
        along.plot(range(1, 1 + len(found["distance"])), found["distance"], **style)
        shares = [100 * share for share in found["share_of_mismatches"]]
        mismatches.plot(range(1, 1 + len(shares)), shares, **style)
        course.plot(smoothed(found["nearest_step"], AROUND), **style)
    _titled(along, "Mean distance to the target", "student's step", "L1 distance, after the first step = 1")
    _titled(mismatches, "Nearest step before the last", "by so many steps or more", "iterations (%)")
    _titled(course, f"Nearest step, mean of {2 * AROUND + 1}", "iteration", "student's step")
    figure.savefig(file, dpi=150, metadata={"Software": None})


def smoothed(values: list[float], around: int) -> NDArray[np.float64]:
    """The means of each value and of so many on either side, as far as there are as many."""
    kernel = np.ones(min(2 * around + 1, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def _titled(axes: "Axes", title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)


def main(
    json_file: Annotated[Path, typer.Option("--json", help="Write the figures here, and the picture beside it.")],
    methods: Annotated[str, typer.Option(help="Methods, by commas. Default: all that this version has.")] = "",
    iterations: Annotated[int, typer.Option(help="Iterations of each.")] = SHARED["distill.iterations"],
    steps: Annotated[int, typer.Option(help="Steps of the student.")] = SHARED["distill.syn_steps"],
    folder: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path("amp"),
) -> None:
    """Distil with each method, and draw."""
    wanted = methods.split(",") if methods else [name for name in METHODS if name in registry.names("method")]
    rows: dict[str, dict[str, Any]] = {}
    for method in wanted:
        rows[method] = row(method, folder, iterations, steps)
        last = rows[method]["distance"][-1] / min(rows[method]["distance"])
        missed = rows[method]["share_of_mismatches"][0]
        typer.echo(
            f"{method:6} nearest before the last in {100 * missed:.0f} %, distance at the end {last:.3f} of the least"
        )
    what = "the accumulated mismatching problem: distances along the student's steps, by method"
    settings = {**SHARED, "distill.iterations": iterations, "distill.syn_steps": steps}
    record = {"what": what, "machine": machine("auto"), "shared": settings, "methods": rows}
    json_file.write_text(json.dumps(record) + "\n")
    draw(json_file.with_suffix(".png"), rows)


if __name__ == "__main__":
    typer.run(main)
