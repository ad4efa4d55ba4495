"""The sources: shapes, splits and facts; CIFAR's official layout, made here from random images."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from attcli import registry
from attcli.errors import UserError


def test_digits_are_what_their_facts_say() -> None:
    info = registry.dataset("digits")
    source = registry.source("digits").load(Path(), "digits")
    assert source.train.images.shape == (info.train, 1, 8, 8)
    assert source.test.images.shape == (info.test, 1, 8, 8)
    assert source.train.images.dtype == np.uint8
    assert source.train.images.max() * info.value_scale == 1.0
    assert np.bincount(source.train.labels).min() == info.smallest_class
    assert len(source.classes) == info.classes
    together = {image.tobytes() for image in source.train.images} & {image.tobytes() for image in source.test.images}
    assert not together


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch, per_file: int = 20) -> None:
    """Files in CIFAR-10's official layout, with torchvision's list of MD5 sums changed to theirs."""
    base = folder / "cifar-10-batches-py"
    base.mkdir()
    random = np.random.default_rng(0)

    def write(name: str, content: dict) -> str:
        data = pickle.dumps(content)
        (base / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def part(name: str) -> tuple[str, str]:
        images = random.integers(0, 256, (per_file, 3072), dtype=np.uint8)
        return name, write(name, {"data": images, "labels": [i % 10 for i in range(per_file)]})

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [part(f"data_batch_{i}") for i in range(1, 6)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [part("test_batch")])
    names = {"label_names": [f"class {i}" for i in range(10)]}
    meta = {"filename": "batches.meta", "key": "label_names", "md5": write("batches.meta", names)}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)


def test_cifar10_is_read_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    source = registry.source("cifar10").load(tmp_path, "cifar10")
    assert source.train.images.shape == (100, 3, 32, 32)
    assert source.test.images.shape == (20, 3, 32, 32)
    reference = datasets.CIFAR10(str(tmp_path), train=True)
    assert np.array_equal(source.train.images[7].transpose(1, 2, 0), reference.data[7])
    assert source.train.labels.tolist() == reference.targets
    assert source.classes[3] == "class 3"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No download."""

    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(datasets.CIFAR10, "download", no_network)


@pytest.mark.usefixtures("offline")
def test_cifar_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cifar10 is not in .* --data-dir"):
        registry.source("cifar10").load(tmp_path, "cifar10")


@pytest.mark.usefixtures("offline")
def test_cifar_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"cifar10 is incomplete or damaged in .* --data-dir"):
        registry.source("cifar10").load(tmp_path, "cifar10")


def test_the_literatures_figures() -> None:
    figures = {
        ("cifar10", "cifar100"): ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ("tinyimagenet", "imagenette"): ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("mnist",): ((0.1307,), (0.3081,)),
        ("fashionmnist",): ((0.2861,), (0.3530,)),
    }
    for names, wanted in figures.items():
        for name in names:
            assert registry.dataset(name).literature == wanted
