"""Whole runs on real images: what the method matrix and the stability test are made of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attcli import progress, runtime
from attcli.options import VARIANTS
from attcli.settings import resolve
from attcli.stages import evaluate, pipeline
from attcli.stages.run import Run
from attcli.store import states


def scored(
    folder: Path, name: str, changes: Mapping[str, Any], split: str, kinds: Sequence[str] = VARIANTS
) -> dict[str, Any]:
    """The scores on a split of a distilled set's last state, by architecture and kind; what is there is not repeated.

    `changes` are settings by dotted name, over the recipe of their method, dataset and ipc. Runs whose experts have
    equal settings share them.
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
    pipeline.distill(run)
    report = evaluate.row(run, states.snapshots(run.snapshots)[-1], split, kinds)
    return dict(report["scores"])
