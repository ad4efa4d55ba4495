"""Datasets of the package `datasets`, where it is installed: from local files, without the Hub."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from attcli.data import sources
from attcli.data.sources import hf
from attcli.errors import UserError
from attcli.settings import resolve
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
