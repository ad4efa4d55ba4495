"""`python -m benchmarks.recipes --json FILE`: every recipe, for one iteration, on generated images in official layouts.

Each recipe is planned as published (`--dry-run`), then run with a network of width 8, one expert of as few epochs as it
can read, batches of 64, two steps of the student and one update. Methods, labels, windows, images per class and
normalisers stay the recipe's own, but for ZCA at 64 x 64, which would take most of an hour here and is replaced by the
literature's constants. Checksums of CIFAR's files are not compared, as generated files can't have them.
"""

import json
import pickle
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from loguru import logger
from PIL import Image
from torchvision import datasets
from typer.testing import CliRunner

import attcli
from attcli.cli import app
from attcli.data.sources.imagenet import CLASSES
from attcli.settings.recipes import all_recipes
from benchmarks.timing import machine

RESIZED = {"tinyimagenet": 64}
SHORT = {
    "network.width": 8,
    "buffer.experts": 1,
    "buffer.batch": 64,
    "buffer.epochs": "auto",
    "distill.iterations": 1,
    "distill.save_every": 1,
    "distill.syn_steps": 2,
    "distill.expert_epochs": 1,
    "distill.min_start_epoch": 0,
    "distill.max_start_epoch": 1,
    "distill.current_max_start_epoch": 1,
    "distill.label_epoch": 1,
}


def cifar(folder: Path, generator: np.random.Generator) -> None:
    """CIFAR-10 and CIFAR-100: pickles of random images, 1,000 and 100 of each class, and ten of each for tests."""

    def batch(count: int, classes: int, key: str, path: Path) -> None:
        labels = [i % classes for i in range(count)]
        pixels = generator.integers(0, 256, (count, 3072), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps({"data": pixels, key: labels}))

    ten, hundred = folder / "cifar-10-batches-py", folder / "cifar-100-python"
    for i in range(1, 6):
        batch(2_000, 10, "labels", ten / f"data_batch_{i}")
    batch(100, 10, "labels", ten / "test_batch")
    (ten / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {c}" for c in range(10)]}))
    batch(10_000, 100, "fine_labels", hundred / "train")
    batch(1_000, 100, "fine_labels", hundred / "test")
    (hundred / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {c}" for c in range(100)]}))


def jpeg(path: Path, generator: np.random.Generator, width: int, height: int) -> None:
    """A file of smooth random colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = generator.integers(0, 256, (5, 5, 3), np.uint8)
    Image.fromarray(small).resize((width, height)).save(path)


def tiny_imagenet(folder: Path, generator: np.random.Generator) -> None:
    """Tiny ImageNet as its archive unpacks: 50 images of each of the 200 classes, and two for tests."""
    root = folder / "tiny-imagenet-200"
    wnids = [f"n{1443537 + c:08d}" for c in range(200)]
    lines = []
    for c, wnid in enumerate(wnids):
        for i in range(50):
            jpeg(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", generator, 64, 64)
        for i in range(2):
            name = f"val_{2 * c + i}.JPEG"
            jpeg(root / "val" / "images" / name, generator, 64, 64)
            lines.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(wnids) + "\n")


def imagenet(folder: Path, generator: np.random.Generator) -> None:
    """The classes of the six subsets in ImageNet's folders: twelve images of each, and two for tests."""
    for wnid in dict.fromkeys(wnid for classes in CLASSES.values() for wnid in classes):
        for split, count in (("train", 12), ("val", 2)):
            for i in range(count):
                jpeg(folder / "imagenet" / split / wnid / f"{wnid}_{i}.JPEG", generator, 150, 120)


def unchecked() -> None:
    """Let torchvision take CIFAR's generated files for the official ones."""
    datasets.cifar.check_integrity = lambda path, md5=None: Path(path).exists()  # type: ignore[attr-defined]


def planned(name: str, folder: Path) -> str:
    """The recipe's plan, as published: without any images, their number is that of the official files."""
    places = ["--data-dir", str(folder / "no images"), "--artifacts", str(folder / "planned" / name)]
    words = ["reproduce", name, "--dry-run", *places]
    result = CliRunner().invoke(app, words)
    logger.remove()  # the command's own handler writes to a stream that is closed now
    if result.exit_code:
        raise SystemExit(f"{name} --dry-run ended with {result.exit_code}: {result.output}")
    return str(result.output)


def ran(name: str, folder: Path) -> dict[str, Any]:
    """One iteration of a recipe: the number and shape of its images, and the seconds that all stages took."""
    recipe = all_recipes()[name]
    changes: dict[str, Any] = {**recipe.experiment.settings(), **SHORT}
    if recipe.experiment.dataset in RESIZED and recipe.values["prepare.normalise"].value == "zca":
        changes["prepare.normalise"] = "literature"
    places = {"data_dir": folder, "artifacts": folder / "results" / name, "work_dir": folder / "work"}
    changes |= {f"runtime.{key}": str(place) for key, place in places.items()}
    begun = time.perf_counter()
    distilled = attcli.distill(attcli.resolve(changes))
    seconds = round(time.perf_counter() - begun, 1)
    if not bool(distilled.images.isfinite().all()) or distilled.about["iteration"] != 1:
        raise SystemExit(f"{name}: its set is not that of one finite iteration")
    return {"recipe": name, "images": list(distilled.images.shape), "seconds": seconds}


def main(
    only: Annotated[str, typer.Option(help="Recipes whose names contain this.")] = "",
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the record to this file.")] = None,
) -> None:
    """Plan and run every recipe."""
    unchecked()
    with tempfile.TemporaryDirectory() as temporary:
        folder, generator = Path(temporary), np.random.default_rng(0)
        for make in (cifar, tiny_imagenet, imagenet):
            make(folder, generator)
        rows = []
        for name in (name for name in all_recipes() if only in name):
            planned(name, folder)
            rows.append(ran(name, folder))
            typer.echo(f"{name:28} {rows[-1]['images']} {rows[-1]['seconds']} s")
    if as_json:
        record = {
            "what": "every recipe planned as published, and run for one iteration",
            **machine("auto"),
            "rows": rows,
        }
        as_json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
