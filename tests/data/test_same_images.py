"""The same images as pickles of CIFAR-10 and as a folder of PNGs are the same dataset."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

import attcli
from attcli.store import artefact

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pickles(folder: Path) -> None:
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = generator.permutation(np.arange(20) % 10).tolist()
        pixels = generator.integers(0, 256, (20, 3072), np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))


def as_png(official: datasets.CIFAR10, folder: Path) -> None:
    for i, (pixels, label) in enumerate(zip(official.data, official.targets, strict=True)):
        path = folder / NAMES[label] / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def arrays(folder: Path, name: str, **options: object) -> artefact.Arrays:
    places = {"runtime.artifacts": folder / name, "runtime.work_dir": folder / "work"}
    changes = {"prepare.normalise": "standardise", "buffer.batch": 10, **places, **options}
    path = attcli.prepare(attcli.resolve({"prepare.dataset": name, **changes}))
    return artefact.read(path, "dataset", "attcli prepare")[1]


def test_a_folder_of_pngs_is_the_dataset_of_the_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda path, md5=None: Path(path).exists())
    pickles(tmp_path / "official" / "cifar-10-batches-py")
    for split in ("train", "test"):
        as_png(datasets.CIFAR10(str(tmp_path / "official"), train=split == "train"), tmp_path / "png" / split)
    official = arrays(tmp_path, "cifar10", **{"runtime.data_dir": tmp_path / "official"})
    folder = arrays(tmp_path, "folder", **{"runtime.data_dir": tmp_path / "png"})
    for split in ("train", "test"):
        by_class = np.argsort(official[f"{split}/labels"], kind="stable")  # a folder's images go class by class
        assert np.array_equal(official[f"{split}/labels"][by_class], folder[f"{split}/labels"])
        assert np.array_equal(official[f"{split}/images"][by_class], folder[f"{split}/images"])
    assert len(folder["train/images"]) == 100
    for name in ("normaliser/mean", "normaliser/std"):
        assert np.array_equal(official[name], folder[name])
