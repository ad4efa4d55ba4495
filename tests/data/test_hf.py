"""Datasets of the package `datasets`, where it is installed: from local files, without the Hub."""

import importlib.util
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import attcli
from attcli.data import imagefiles, sources
from attcli.data.sources import hf
from attcli.errors import UserError
from attcli.settings import resolve
from attcli.stages import kept, pipeline
from attcli.stages.run import Run
from tests.data.pictures import classes, picture, request

HAS_DATASETS = importlib.util.find_spec("datasets") is not None
needs_datasets = pytest.mark.skipif(not HAS_DATASETS, reason="the package datasets is not installed")


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hf._loaded.cache_clear()
    yield
    hf._loaded.cache_clear()


def test_without_the_package_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"need the package datasets \(.*\); install it: pip install 'attcli\[hf\]'"):
        resolve({"prepare.dataset": "hf:owner/name"}, environ={}, ignore_params=True)


def test_a_name_is_needed() -> None:
    with pytest.raises(UserError, match="hf names no dataset; write --dataset hf:owner/name"):
        resolve({"prepare.dataset": "hf"}, environ={}, ignore_params=True)


@needs_datasets
@pytest.mark.filterwarnings("ignore")
def test_a_local_dataset_is_read_as_its_files_are(tmp_path: Path) -> None:
    root = tmp_path / "images"
    classes(root / "train", ("cat", "dog"), 6)
    classes(root / "test", ("cat", "dog"), 2)
    asked = request(root, f"hf:{root}")
    info = sources.describe(asked)
    assert (info.classes, info.channels, info.resolution) == (2, 3, 8)
    assert (info.train, info.smallest_class, info.test, info.seeded) == (12, 6, 4, False)
    source, files = sources.load(asked), sources.load(request(root))
    assert source.classes == files.classes
    for ours, theirs in zip(source[:2], files[:2], strict=True):
        found = {image.tobytes() for image in ours.read(np.arange(len(ours.labels)))}
        assert found == {image.tobytes() for image in theirs.read(np.arange(len(theirs.labels)))}
        assert ours.labels.tolist() == theirs.labels.tolist()


@needs_datasets
@pytest.mark.filterwarnings("ignore")
def test_the_digest_is_that_of_classes_labels_and_images_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = classes(tmp_path / "images" / "train", ("cat", "dog"), 6).parent
    first = sources.digest(request(root, f"hf:{root}"))
    moved = root.rename(tmp_path / "moved")
    assert sources.digest(request(moved, f"hf:{moved}")) == first
    picture(moved / "train" / "cat" / "0.png", seed=77)
    assert sources.digest(request(moved, f"hf:{moved}")) != first


@needs_datasets
@pytest.mark.filterwarnings("ignore")
def test_the_digest_of_images_within_a_dataset_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    root = classes(tmp_path / "images" / "train", ("cat", "dog"), 6).parent
    first = sources.digest(request(root, f"hf:{root}"))
    whole = datasets.load_dataset(str(root))["train"].cast_column("image", datasets.Image(decode=False))
    whole = whole.map(lambda row: {"image": {"bytes": Path(row["image"]["path"]).read_bytes(), "path": None}})
    whole = whole.cast_column("image", datasets.Image())
    (tmp_path / "table").mkdir()
    whole.to_parquet(tmp_path / "table" / "train.parquet")
    asked = request(tmp_path, f"hf:{tmp_path / 'table'}")
    assert sources.digest(asked) == first
    monkeypatch.setattr(hf, "_digest", lambda *_: "read again")
    assert sources.digest(asked) == first


@needs_datasets
@pytest.mark.filterwarnings("ignore")
def test_a_share_of_a_dataset_without_test_images(tmp_path: Path) -> None:
    root = classes(tmp_path / "images" / "train", ("cat", "dog"), 10).parent
    source = sources.load(request(root, f"hf:{root}", test_share=0.3))
    assert np.bincount(source.test.labels).tolist() == [3, 3]
    assert np.bincount(source.train.labels).tolist() == [7, 7]


@needs_datasets
@pytest.mark.filterwarnings("ignore")
def test_datasets_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hf:owner/none cannot be loaded \(.*; check its name"):
        sources.describe(request(tmp_path, "hf:owner/none"))
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "train.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(UserError, match=r"has no column of images \(its columns are x, y\)"):
        sources.describe(request(tmp_path, f"hf:{tmp_path / 'table'}"))
    for i in range(3):
        picture(tmp_path / "unlabelled" / "train" / f"{i}.png", seed=i)
    with pytest.raises(UserError, match="has no column of classes"):
        sources.describe(request(tmp_path, f"hf:{tmp_path / 'unlabelled'}"))
    classes(tmp_path / "only" / "test", ("cat", "dog"), 2)
    with pytest.raises(UserError, match=r"has no split train \(it has test\)"):
        sources.describe(request(tmp_path, f"hf:{tmp_path / 'only'}"))


class Rows:
    """A split as the package has it."""

    def __init__(self, rows: list[dict[str, Any]], features: dict[str, Any]) -> None:
        self.rows, self.features, self._fingerprint = rows, features, "0"

    def select_columns(self, name: str) -> "Rows":
        return Rows([{name: row[name]} for row in self.rows], self.features)

    def cast_column(self, *_: Any) -> "Rows":
        return self

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return {name: [row[name] for row in self.rows[at]] for name in self.rows[0]}
        return self.rows[at]


class Package(ModuleType):
    """In the place of the package `datasets`: a dataset of two classes whose splits have these labels."""

    class Image:
        """The type of a column of images."""

        def __init__(self, decode: bool = True) -> None: ...

    class ClassLabel:
        """The type of a column of labels."""

        names = ("cat", "dog")

    def __init__(self, **labels: list[int | None]) -> None:
        super().__init__("datasets")
        self._labels = labels

    def load_dataset(self, name: str) -> dict[str, Rows]:
        features = {"image": self.Image(), "label": self.ClassLabel()}
        return {
            split: Rows([{"image": self.picture(split, i), "label": label} for i, label in enumerate(labels)], features)
            for split, labels in self._labels.items()
        }

    def picture(self, split: str, i: int) -> dict[str, object]:
        """The image of a row, whose grey tells which row it is."""
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (10 * i,) * 3).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}


@pytest.mark.parametrize("unlabelled", [-1, None])
def test_a_test_split_without_labels_is_not_read(
    unlabelled: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [0, 1] * 5
    package = Package(train=labels, test=[unlabelled] * 4, validation=[0, 1, 1])
    monkeypatch.setitem(sys.modules, "datasets", package)
    asked = request(tmp_path, "hf:some/one")
    assert (sources.describe(asked).test, sources.describe(asked).seeded) == (3, False)
    assert sources.load(asked).test.labels.tolist() == [0, 1, 1]

    hf._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "datasets", Package(train=labels, test=[unlabelled] * 4))
    assert sources.describe(asked).seeded
    assert np.bincount(sources.load(asked).test.labels).tolist() == [1, 1]

    hf._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "datasets", Package(train=[*labels, unlabelled]))
    with pytest.raises(UserError, match="has images without a class in its split train"):
        sources.describe(asked)


def test_a_name_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is longer than 190 characters; give the folder a shorter path"):
        sources.describe(request(tmp_path, f"hf:{'x' * 191}"))


def test_later_stages_need_neither_the_package_nor_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", Package(train=[0, 1] * 10, test=[0, 1]))
    places = {"runtime.artifacts": str(tmp_path / "artifacts"), "runtime.work_dir": str(tmp_path / "work")}
    named = {"prepare.dataset": "hf:some/one", "buffer.batch": 8, "prepare.normalise": "contrast", **places}
    prepared = attcli.prepare(attcli.resolve(named))
    before = prepared.stat().st_mtime_ns
    hf._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "datasets", None)
    run = Run(attcli.resolve(named))
    pipeline.prepare(run)
    assert prepared.stat().st_mtime_ns == before
    assert kept.prepared(run) is not None


def test_images_keep_their_labels_where_some_become_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", Package(train=[0, 1] * 5))
    source = sources.load(request(tmp_path, "hf:some/one", test_share=0.2))
    assert len(source.test.labels) == 2
    for part in source[:2]:
        rows = part.read(np.arange(len(part.labels)))[:, 0, 0, 0] // 10
        assert (rows % 2).tolist() == part.labels.tolist()


@pytest.mark.parametrize("changed", ["labels", "images"])
def test_the_digest_tells_other_test_images(changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(test: list[int | None], grey: int, folder: str) -> str:
        class Other(Package):
            def picture(self, split: str, i: int) -> dict[str, object]:
                return super().picture(split, i + (grey if split == "test" else 0))

        monkeypatch.setitem(sys.modules, "datasets", Other(train=[0, 1] * 5, test=test))
        hf._loaded.cache_clear()
        return sources.digest(replace(request(tmp_path, "hf:some/one"), work_dir=tmp_path / folder))

    first = digest([0, 1], 0, "a")
    assert digest([0, 1], 0, "b") == first
    assert digest(*(([1, 0], 0) if changed == "labels" else ([0, 1], 5)), "c") != first


def test_images_that_were_added_are_seen_by_the_next_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path, "hf:some/one")
    monkeypatch.setitem(sys.modules, "datasets", Package(train=[0, 1] * 5))
    assert sources.describe(asked).train == 8
    monkeypatch.setitem(sys.modules, "datasets", Package(train=[0, 1] * 10))
    assert sources.describe(asked).train == 8
    imagefiles.forget()
    assert sources.describe(asked).train == 16
