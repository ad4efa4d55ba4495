"""Whole files of every kind, from one tiny run: what cases change."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from attcli.stages import compacting, exporting, pipeline
from attcli.stages.run import Run
from tests.conftest import settings_in

TINY = {
    "network__width": 4,
    "buffer__experts": 1,
    "distill__iterations": 2,
    "distill__syn_steps": 2,
    "distill__expert_epochs": 1,
    "distill__max_start_epoch": 1,
}
CODED = {"distill__labels": "learned", "distill__label_storage": "uint8", "distill__frequencies": 16}
SETS = {
    "multiformation": {"distill__parameterisation": "multiformation", "distill__storage": "uint8"},
    "frequency": {"distill__parameterisation": "frequency", "distill__storage": "codes", "distill__code_groups": 8},
}


@dataclass(frozen=True)
class Bases:
    """Folders and files that are whole: artefacts by name, and what they were exported as."""

    artefacts: dict[str, Path]
    released: Path
    experts: Path
    safetensors: Path
    png: Path


def make(folder: Path) -> Bases:
    """Make them below a folder, where they are missing."""
    run = Run(settings_in(folder, **TINY))
    pipeline.distill(run)
    artefacts = {
        "dataset": run.dataset,
        "expert": run.experts / "expert-0000.h5",
        "set": run.synthetic,
        "snapshot": max(run.snapshots.glob("*.h5")),
        "history": run.history,
        "normaliser": run.normaliser,
    }
    compact = Run(settings_in(folder, runtime__artifacts=str(folder / "compact"), **TINY))
    compacting.run(compact, run.experts, waypoints=2)
    artefacts["compact expert"] = compact.experts / "expert-0000.h5"
    for name, choice in SETS.items():
        coded = Run(settings_in(folder, runtime__artifacts=str(folder / name), **TINY, **CODED, **choice))
        pipeline.distill(coded)
        artefacts[name] = coded.synthetic
    exports = {form: folder / form for form in ("released", "safetensors", "png")}
    for form, target in exports.items():
        exporting.run(run.synthetic, form, target, force=True)
    exporting.run(run.experts, "released-experts", folder / "buffers", force=True)
    content = torch.load(folder / "buffers" / "replay_buffer_0.pt")
    torch.save(content, folder / "buffers" / "replay_buffer_0.pt")
    return Bases(artefacts, exports["released"], folder / "buffers", exports["safetensors"], exports["png"])


def copied(source: Path, target: Path) -> Path:
    """A fresh copy of a folder."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
