"""Whole runs on real images: what the method matrix and the stability test are made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attcli import progress, runtime
from attcli.settings import resolve
from attcli.stages import distill, evaluate
from attcli.stages.run import Run
from attcli.store import synthetic


def scored(folder: Path, name: str, changes: Mapping[str, Any], snapshots: bool = False) -> dict[str, Any]:
    """The report of one run, from nothing or from what is there; experts of equal settings are shared.

    `changes` are settings by dotted name, over the recipe of their method, dataset and ipc. With `snapshots` the last
    state is scored on validation images instead of the test images.
    """
    flags = {
        **changes,
        "runtime.artifacts": str(folder / name),
        "runtime.work_dir": str(folder / ".attcli"),
        "runtime.verbosity": "quiet",
    }
    settings = resolve(flags, ignore_params=True).settings
    progress.configure("quiet")
    runtime.configure(settings.runtime.threads, settings.runtime.deterministic)
    run = Run(settings)
    if snapshots:
        distill.run(run)
        return evaluate.row(run, synthetic.snapshots(run.snapshots)[-1], "validation")
    return evaluate.run(run)
