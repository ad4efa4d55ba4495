"""`python -m benchmarks.coded [VARIANT …]`: what a set is made of, for equal bytes, on a small part of CIFAR-10.

Every variant gets the bytes of one float32 image per class, the same experts, and the same number of iterations with
batches of ten images, so that an iteration costs the same. A variant is a method with its own settings. Images are
normalised by the literature's constants, so that sets stand alone, unless a variant says ZCA. Image learning rates are
tuned on the validation images (`--split validation`), never on those that a table is made from.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from attcli import progress, runtime
from attcli.atomic import atomic
from attcli.settings import resolve
from attcli.settings.layers import assignment
from attcli.stages import evaluate, pipeline
from attcli.stages.run import Run
from attcli.store import states, synthetic
from benchmarks.timing import machine

SHARED: dict[str, Any] = {
    "prepare.dataset": "cifar10",
    "prepare.normalise": "literature",
    "prepare.limit_per_class": 500,
    "prepare.validation": 1000,
    "network.width": 32,
    "buffer.experts": 6,
    "buffer.epochs": 20,
    "buffer.batch": 128,
    "buffer.precision": "float32",
    "distill.ipc": 1,
    "distill.iterations": 200,
    "distill.syn_steps": 60,
    "distill.expert_epochs": 4,
    "distill.max_start_epoch": 2,
    "distill.batch_syn": 10,
    "distill.lr_init": 0.01,
    "distill.lr_lr": 1e-7,
    "distill.min_lr": 1e-6,
    "distill.ema_decay": 0.99,
    "distill.save_every": 50,
    "distill.scales_every": 20,
    "distill.scales_until": 140,
    "distill.max_loss": None,
    "distill.precision": "float32",
    "evaluate.archs": "convnet",
    "evaluate.repeats": 3,
    "evaluate.epochs": 300,
}
"""What all variants have in common, whatever the recipes of their methods say (tests/test_coded.py)."""

LABELS = {"distill.labels": "learned", "distill.label_storage": "float16", "distill.lr_labels": 2.0}
LATE = {"distill.max_start_epoch": 14}
WHITENED = {"prepare.normalise": "zca"}

VARIANTS: dict[str, dict[str, Any]] = {
    "pixels": {"distill.method": "att", "distill.lr_img": 1600.0},
    "pixels, float16": {"distill.method": "att", "distill.storage": "float16", "distill.lr_img": 1600.0},
    "pixels, uint8": {"distill.method": "att+uint8", "distill.lr_img": 200.0},
    "multiformation": {"distill.method": "att+multiformation", "distill.lr_img": 25.0},
    "multiformation, uint8": {"distill.method": "att+multiformation+uint8", "distill.lr_img": 50.0},
    "multiformation, 4 bits": {
        "distill.method": "att+multiformation+codes",
        "distill.code_bits": 4,
        "distill.lr_img": 100.0,
    },
    "multiformation, 2 bits": {
        "distill.method": "att+multiformation+codes",
        "distill.code_bits": 2,
        "distill.lr_img": 200.0,
    },
    "frequency": {"distill.method": "att+fred", "distill.lr_img": 1600.0},
    "frequency, uint8": {"distill.method": "att+fred+uint8", "distill.lr_img": 3200.0},
    "frequency, 4 bits": {"distill.method": "att+fred+codes", "distill.code_bits": 4, "distill.lr_img": 6400.0},
}
for name in ("multiformation, uint8", "frequency"):
    VARIANTS[f"{name}, labels"] = {**VARIANTS[name], **LABELS}
VARIANTS |= {f"{name}, ZCA": {**settings, **WHITENED} for name, settings in VARIANTS.items()}
for name in ("pixels, ZCA", "pixels, float16, ZCA"):  # the rate that ATT published, which is for images after ZCA
    VARIANTS[name] = {**VARIANTS[name], "distill.lr_img": 100.0}
VARIANTS |= {f"{name}, late": {**settings, **LATE} for name, settings in VARIANTS.items()}

OTHERS: dict[str, Any] = {"evaluate.repeats": 1, "evaluate.lr": 0.01, "evaluate.precision": "bfloat16"}
"""How networks are trained that do not distil: the learning rate that is learned with a set does not suit them.

They are large, so they compute in bfloat16, which takes about half the time on a CPU."""


SUMMARY = ("mean", "sd", "n", "accuracies")
"""What is kept of a score."""


def main(
    variants: Annotated[list[str] | None, typer.Argument(help="Names of variants; default: all.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Settings of all runs, as key=value.")] = None,
    split: Annotated[str, typer.Option(help="Images that are scored on: test, or validation for tuning.")] = "test",
    baselines: Annotated[bool, typer.Option(help="Score random real images too.")] = True,
    others: Annotated[str, typer.Option(help="Other networks that score the final sets, as vgg11,alexnet.")] = "",
    folder: Annotated[Path, typer.Option(help="Where results are kept; an interrupted table goes on.")] = Path("coded"),
    data_dir: Annotated[Path, typer.Option(help="Where CIFAR-10 lies.")] = Path("data"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, after every row.")] = None,
) -> None:
    """Distil and score the variants; a row each, with the bytes that were measured."""
    given = dict(assignment(text) for text in sets or [])
    shared, device = {**SHARED, **given}, given.get("runtime.device", "auto")
    rows = _earlier(json_file, shared, split) if json_file and json_file.exists() else {}
    for name in variants or VARIANTS:
        changes = {**SHARED, **VARIANTS[name], **given, "runtime.data_dir": str(data_dir)}
        row = _row(folder, changes, split, baselines, [arch for arch in others.split(",") if arch])
        earlier = rows.get(name, {})
        known = (
            earlier["scores"] if earlier.get("sha256") == row["sha256"] else {}
        )  # by networks not asked for this time
        rows[name] = {
            "settings": {**VARIANTS[name], **given},
            **row,
            "scores": {**known, **row["scores"]},
            "machine": machine(device),
        }
        shown = "  ".join(f"{kind} {entry['mean']:.1f}" for kind, entry in row["scores"]["convnet"].items())
        typer.echo(f"{name:32} {row['images_per_class']:4} images, {row['bytes_per_class']:9,.1f} bytes  {shown}")
        if json_file:
            about = {"machine": machine(device), "shared": shared, "others": OTHERS, "split": split, "rows": rows}
            with atomic(json_file) as new:
                new.write_text(json.dumps(about, indent=2) + "\n")


def _earlier(json_file: Path, shared: dict[str, Any], split: str) -> dict[str, Any]:
    """The rows of a file that was begun before."""
    found = json.loads(json_file.read_text())
    if (found["shared"], found["split"]) != (json.loads(json.dumps(shared)), split):
        raise typer.BadParameter(f"{json_file} was made with other settings; name another file")
    return dict(found["rows"])


def _row(folder: Path, changes: dict[str, Any], split: str, baselines: bool, others: list[str]) -> dict[str, Any]:
    run = _run(folder, changes)
    pipeline.distill(run)
    last = states.snapshots(run.snapshots)[-1]
    if split == "test" and baselines:
        scores = pipeline.evaluate(run)["scores"]
    else:
        scores = evaluate.row(run, last, split)["scores"]
    for arch in others:
        scorer = _run(folder, changes, {**OTHERS, "evaluate.archs": arch})
        scores |= evaluate.row(scorer, last, split, ("synthetic",))["scores"]
    distilled = synthetic.read(run.synthetic)
    summaries = {
        arch: {kind: {name: entry[name] for name in SUMMARY} for kind, entry in kinds.items()}
        for arch, kinds in scores.items()
    }
    return {**distilled.size, "sha256": distilled.sha256, "scores": summaries}


def _run(folder: Path, changes: dict[str, Any], scored_by: dict[str, Any] | None = None) -> Run:
    key = "-".join(f"{name}={value}" for name, value in sorted(changes.items()) if SHARED.get(name, ...) != value)
    flags = {
        **changes,
        **(scored_by or {}),
        "runtime.artifacts": str(folder / _hashed(key)),
        "runtime.work_dir": str(folder / ".attcli"),
        "runtime.verbosity": "quiet",
    }
    run = Run(resolve(flags, ignore_params=True).settings)
    progress.configure("quiet")
    runtime.configure(run.settings.runtime.threads, run.settings.runtime.deterministic)
    return run


def _hashed(key: str) -> str:
    """A folder's name for the settings of a run."""
    return sha256(key.encode()).hexdigest()[:12]


if __name__ == "__main__":
    typer.run(main)
