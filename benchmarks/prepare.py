"""`python -m benchmarks.prepare --json FILE`: a folder of many small JPEGs, prepared; beside a plain DataLoader's pass.

Each side runs in a process of its own. `prepare` looks at every file (its digest), decodes it, fits the normaliser in
two passes and writes dataset.h5; a second row is the same after a kill, with the digests known. The reference is one
pass of torch's DataLoader, two workers, over torchvision's ImageFolder, and keeps nothing; a second one also does what
a user would do next: it writes the bytes into one file and sums up what mean and deviation need. Peaks are of the
process alone, without those that it begins.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from benchmarks.timing import machine

CLASSES, SIDE = 20, 64

REFERENCE = """
import sys
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
images = ImageFolder(sys.argv[1], v2.Compose([v2.Resize((64, 64)), v2.PILToTensor()]))
total = sum(len(batch) for batch, _ in DataLoader(images, batch_size=512, num_workers=2))
assert total == len(images)
"""

KEPT = """
import sys
import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
images = ImageFolder(sys.argv[1], v2.Compose([v2.Resize((64, 64)), v2.PILToTensor()]))
sums, first = torch.zeros(2, 3, dtype=torch.float64), 0
kept = np.lib.format.open_memmap(sys.argv[2], "w+", np.uint8, (len(images), 3, 64, 64))
for batch, _ in DataLoader(images, batch_size=512, num_workers=2):
    kept[first : first + len(batch)] = batch.numpy()
    values = batch.float() / 255
    sums += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
    first += len(batch)
kept.flush()
assert first == len(images)
"""

SIDES = "ours", "ours, digests known", "reference", "reference, kept"


def make(folder: Path, count: int) -> None:
    """JPEGs of 64 x 64: smooth colours and some noise, each another one; in 20 classes, and as many again for tests."""
    generator = np.random.default_rng(0)
    smooth = [Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8)).resize((SIDE, SIDE)) for _ in range(500)]
    noise = generator.integers(0, 24, (64, SIDE, SIDE, 3), np.uint8)

    def one(i: int) -> None:
        pixels = np.asarray(smooth[i % 500]) // 2 + noise[i % 64] + i // 500 % 100
        Image.fromarray(pixels).save(folder / f"{i % CLASSES:02d}" / f"{i:06d}.jpg", quality=90)

    for c in range(CLASSES):
        (folder / f"{c:02d}").mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(count)))


MEASURE = """
import json, resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[2:]], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
found = {"cpu_s": round(used.ru_utime + used.ru_stime, 2), "peak_bytes": used.ru_maxrss * 1024}
open(sys.argv[1], "w").write(json.dumps(found))
"""
"""A small process in between: a process begins with the largest memory of the one that starts it, here with torch's."""


def measured(words: list[str], folder: Path) -> dict[str, Any]:
    """Wall and CPU seconds and the peak memory of a command, in a process of its own."""
    begun = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    report = folder / "measured.json"
    done = subprocess.run([sys.executable, "-c", MEASURE, report, *words], cwd=folder, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    wall_s = round(time.perf_counter() - begun, 2)
    return {"wall_s": wall_s, **json.loads(report.read_text())}


def row(folder: Path, count: int) -> dict[str, Any]:
    """Both sides over so many images."""
    images, results = folder / f"images-{count}", folder / f"results-{count}"
    begun = time.perf_counter()
    make(images, count)
    os.sync()  # or what is measured first would wait for the disk
    typer.echo(f"made {count} images in {time.perf_counter() - begun:.0f} s", err=True)
    sets = {
        "prepare.normalise": "standardise",
        "prepare.dataset": "folder",
        "runtime.data_dir": images,
        "runtime.artifacts": results / "artifacts",
        "runtime.work_dir": results / "work",
    }
    ours = ["-m", "attcli", "prepare", *(word for name, value in sets.items() for word in ("--set", f"{name}={value}"))]
    found: dict[str, Any] = {"name": f"prepare/{count}", "images": count}
    found["ours"] = measured(ours, folder)
    (kept,) = (results / "work").glob("prepare-*")
    shutil.rmtree(results / "artifacts")
    shutil.rmtree(kept)
    found["ours, digests known"] = measured(ours, folder)
    found["reference"] = measured(["-c", REFERENCE, str(images)], folder)
    found["reference, kept"] = measured(["-c", KEPT, str(images), str(results / "kept.npy")], folder)
    for side in SIDES:
        for clock in ("wall", "cpu"):
            found[side][f"images_per_{clock}_second"] = round(count / found[side][f"{clock}_s"], 1)
    shutil.rmtree(results)
    shutil.rmtree(images)
    return found


def main(
    counts: Annotated[list[int] | None, typer.Argument(help="Numbers of images; default: 20000 and 100000.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, after every row.")] = None,
) -> None:
    """Measure, and write the record."""
    report: dict[str, Any] = {"machine": {**machine("cpu"), "load": round(os.getloadavg()[0], 2)}, "results": []}
    folder = Path(tempfile.mkdtemp(prefix="attcli-benchmark-"))
    try:
        for count in counts or [20_000, 100_000]:
            report["results"].append(row(folder, count))
            typer.echo(json.dumps(report["results"][-1], indent=2))
            if json_file:
                json_file.write_text(json.dumps(report, indent=2) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    typer.run(main)
