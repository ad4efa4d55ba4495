"""MNIST, Fashion-MNIST and SVHN in their official files, made here from random images."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

from attcli import registry
from attcli.data import sources
from attcli.errors import UserError
from tests.data.pictures import request


def write_idx(path: Path, array: np.ndarray) -> None:
    """A file in MNIST's format."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())
    with gzip.open(path.with_suffix(".gz"), "wb") as packed:
        packed.write(header + array.tobytes())


def write_mnist(folder: Path, name: str) -> dict[str, np.ndarray]:
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    images = {part: random.integers(0, 256, (count, 28, 28), np.uint8) for part, count in (("train", 30), ("t10k", 20))}
    for part, pixels in images.items():
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(len(pixels), dtype=np.uint8) % 10)
    return images


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST")])
def test_mnist_and_fashion_mnist(tmp_path: Path, name: str, folder: str) -> None:
    images = write_mnist(tmp_path, folder)
    source = sources.load(request(tmp_path, name))
    assert np.array_equal(source.train.read(np.array([3, 29])), images["train"][[3, 29], None])
    assert np.array_equal(source.test.read(np.arange(20)), images["t10k"][:, None])
    assert source.test.labels.tolist() == [i % 10 for i in range(20)]
    assert source.test.labels.dtype == np.int64
    assert len(source.classes) == registry.dataset(name).classes


def write_svhn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    random, images = np.random.default_rng(0), {}
    for split, count in (("train", 20), ("test", 10)):
        images[split] = random.integers(0, 256, (count, 3, 32, 32), np.uint8)
        labels = np.arange(count)[:, None] % 10 + 1  # 10 stands for the digit 0
        path = folder / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images[split].transpose(2, 3, 1, 0), "y": labels})
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: (folder / "test_32x32.mat").exists())
    return images


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_svhn(tmp_path, monkeypatch)
    source = sources.load(request(tmp_path, "svhn"))
    assert np.array_equal(source.train.read(np.arange(20)), images["train"])
    assert source.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert source.classes == [str(n) for n in range(10)]


@pytest.mark.parametrize(
    ("name", "maker", "file"),
    [("mnist", datasets.MNIST, "MNIST"), ("svhn", datasets.SVHN, "train_32x32.mat test_32x32.mat")],
)
def test_official_datasets_that_are_nowhere(
    tmp_path: Path, name: str, maker: type, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(maker, "download", no_network)
    message = rf"{name} is not in .* could not be downloaded \(no network\); put its whole {file} there .*--data-dir"
    with pytest.raises(UserError, match=message):
        sources.load(request(tmp_path, name))


def test_damaged_files_of_mnist(tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST")
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03 cut short")
    with pytest.raises(UserError, match="mnist is incomplete or damaged in"):
        sources.load(request(tmp_path, "mnist"))


@pytest.mark.parametrize("spelling", ["MNIST", "Fashion-MNIST", "SVHN"])
def test_names_are_accepted_in_any_case(spelling: str) -> None:
    from attcli.settings import resolve

    wanted = {"prepare.dataset": spelling, "prepare.normalise": "literature"}
    named = resolve(wanted, environ={}, ignore_params=True).settings.prepare.dataset
    assert registry.dataset(named).title == spelling
