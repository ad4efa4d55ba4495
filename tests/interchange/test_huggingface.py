"""Sets as dataset folders of the Hugging Face Hub: `datasets` opens them, and the set comes back exactly."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from attcli.errors import UserError
from attcli.interchange import huggingface, packing
from attcli.store import synthetic
from tests.conftest import Cli
from tests.test_cli import refused

RESULT = Path("artifacts/synthetic.h5")
OUT = Path("exported/huggingface")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def test_without_the_package_the_remedy_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.small("distill")
    monkeypatch.setitem(sys.modules, "datasets", None)
    line = refused(cli, "export", "--to", "huggingface")
    assert "needs the package datasets, which is missing; run pip install 'attcli[hf]'" in line
    assert not OUT.exists()


def test_what_has_no_pictures_is_refused_before_anything_is_written(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.small("distill")
    monkeypatch.setattr(huggingface, "_package", lambda: None)
    whole = packing.whole_in(RESULT)
    with pytest.raises(UserError, match="normaliser is missing"):
        huggingface.files(OUT, replace(whole, normaliser=None))
    two = replace(whole.header, about={**whole.header.about, "channels": 2})
    with pytest.raises(UserError, match="pictures have 1 or 3 channels, the set's images 2"):
        huggingface.files(OUT, replace(whole, header=two))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("labels", ["hard", "learned"])
def test_datasets_opens_the_folder_and_the_set_comes_back(cli: Cli, labels: str) -> None:
    datasets = pytest.importorskip("datasets")
    cli.small("distill", "--ipc", "2", "--set", f"distill.labels={labels}", "--set", "prepare.normalise=zca")
    own, whole = synthetic.read(RESULT), packing.whole_in(RESULT)
    paths = cli("export", "--to", "huggingface").splitlines()
    assert {str(Path(path).relative_to(OUT)) for path in paths} == {
        "README.md",
        "data/train-00000-of-00001.parquet",
        "distilled.safetensors",
        "normaliser.safetensors",
    }
    opened = datasets.load_dataset(str(OUT), cache_dir="cache")
    assert list(opened) == ["train"]
    train = opened["train"]
    assert train.features["label"].names == own.about["classes"]
    assert train["label"][:] == [number for number in range(10) for _ in range(2)]
    pictures = np.stack([np.asarray(image) for image in train["image"]])
    assert np.array_equal(pictures, packing.pictures(whole, "synthetic")[0][:, 0].numpy())
    assert ("soft_label" in train.features) == (labels == "learned")
    if labels == "learned":
        assert torch.equal(torch.tensor(train["soft_label"][:]), own.labels)
    facts = YAML(typ="safe").load((OUT / "README.md").read_text().split("---\n")[1])
    assert facts["task_categories"] == ["image-classification"]
    assert facts["dataset_info"]["splits"] == [{"name": "train", "num_examples": 20}]
    cli("import", str(OUT), "--artifacts", "other")
    assert Path("other/synthetic.h5").read_bytes() == RESULT.read_bytes()
