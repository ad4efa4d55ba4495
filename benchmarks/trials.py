"""`python -m benchmarks.trials NAME DATA_DIR --json FILE`: real images through all four stages, at toy length.

NAME is cifar100, tinyimagenet, imagewoof or folder. For folder, where DATA_DIR holds CIFAR-10 as it is downloaded, its
first images of each class are written as PNGs into a folder, which is then read. Each stage is a command in a process
of its own; the record holds the commands with their CPU and wall seconds and the peak of their memory, and the scores
at the end. The settings show that images are read, normalised, trained on, distilled and scored; the figures are those
of a few minutes.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from benchmarks.prepare import measured
from benchmarks.timing import machine

SHORT = {
    "network.width": 32,
    "buffer.experts": 2,
    "buffer.epochs": 2,
    "buffer.batch": 128,
    "buffer.lr": 0.02,
    "distill.expert_epochs": 1,
    "distill.max_start_epoch": 1,
    "distill.syn_steps": 10,
    "distill.iterations": 30,
    "distill.save_every": 30,
    "distill.ema_decay": 0.9,
    "evaluate.repeats": 1,
    "evaluate.epochs": 200,
}
TRIALS: dict[str, dict[str, Any]] = {
    "cifar100": {"prepare.limit_per_class": 100, "distill.iterations": 10, "evaluate.epochs": 50},
    "tinyimagenet": {"distill.iterations": 5, "evaluate.epochs": 10},
    "imagewoof": {"buffer.batch": 32, "buffer.epochs": 4, "distill.iterations": 10},
    "folder": {
        "prepare.resolution": 64,
        "buffer.batch": 32,
        "distill.iterations": 10,
    },
}
PICTURES = {"train": 200, "test": 50}
"""How many images of each class of CIFAR-10 become PNGs."""

STAGES = ("prepare", "buffer", "distill", "evaluate")


def pictures(data_dir: Path, folder: Path) -> Path:
    """A folder with a folder for each class of CIFAR-10, of its first images as PNGs."""
    from torchvision.datasets import CIFAR10

    for part, count in PICTURES.items():
        images = CIFAR10(str(data_dir), train=part == "train")
        for number, label in enumerate(images.classes):
            place = folder / part / label
            place.mkdir(parents=True)
            for i in [i for i, target in enumerate(images.targets) if target == number][:count]:
                Image.fromarray(images.data[i]).save(place / f"{i:05d}.png")
    return folder


def trial(name: str, data_dir: Path, folder: Path) -> dict[str, Any]:
    """The stages' commands with what they took, and the scores."""
    sets = {"prepare.dataset": name, "distill.ipc": 1, **SHORT, **TRIALS[name], "runtime.data_dir": data_dir.resolve()}
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    rows = []
    for stage in STAGES:
        rows.append({"stage": stage, **measured(["-m", "attcli", stage, *words], folder)})
        typer.echo(f"{name} {rows[-1]}", err=True)
    scores = json.loads((folder / "artifacts" / "scores.json").read_text())["scores"]
    means = {arch: {kind: entry["mean"] for kind, entry in row.items()} for arch, row in scores.items()}
    command = "attcli STAGE " + " ".join(f"--set {key}={value}" for key, value in sets.items() if "data_dir" not in key)
    return {"dataset": name, "command": command, "stages": rows, "accuracy_percent": means}


def main(
    name: Annotated[str, typer.Argument(help="cifar100, tinyimagenet, imagewoof or folder.")],
    data_dir: Annotated[Path, typer.Argument(help="The folder of the images, as for --data-dir.")],
    as_json: Annotated[Path | None, typer.Option("--json", help="Add the record to this file.")] = None,
) -> None:
    """Run a trial."""
    if name not in TRIALS:
        sys.exit(f"there is no trial {name}; there are: {', '.join(TRIALS)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if name == "folder" and (data_dir / "cifar-10-batches-py").is_dir():
            data_dir = pictures(data_dir, folder / "pictures")
        row = trial(name, data_dir, folder)
    typer.echo(json.dumps(row["accuracy_percent"]))
    if as_json:
        kept = json.loads(as_json.read_text())["rows"] if as_json.exists() else []
        rows = [*(other for other in kept if other["dataset"] != name), row]
        record = {
            "what": "real images through all four stages, at toy length",
            **machine("auto"),
            "rows": rows,
        }
        as_json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
