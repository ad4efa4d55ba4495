"""What DD-Ranking takes in, and its own score of it where it is installed."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from attcli import registry
from attcli.data import normalise
from attcli.data.normalise import Normaliser
from attcli.interchange import Plain, Whole, ddranking, ddranking_score, packing
from attcli.store import artefact, normaliser
from attcli.store.synthetic import KIND
from tests.conftest import Cli
from tests.test_cli import refused

CIFAR10 = registry.dataset("cifar10")
OUT = Path("exported/ddranking")


def made(of: Normaliser, soft: bool = False, **more: Any) -> Whole:
    """A set for CIFAR-10 of two random images per class, in `set.h5`."""
    torch.manual_seed(0)
    labels = torch.randn(20, 10) if soft else torch.arange(10).repeat_interleave(2)
    plain = Plain(torch.rand(20, 3, 32, 32), labels, 0.0123, "images_best.pt", "0" * 64)
    facts = {
        **packing.about_dataset(plain),
        "dataset": "cifar10",
        "normaliser": {"kind": of.kind, "eps": of.eps, "sha256": of.digest()},
        **more,
    }
    whole = packing.whole_of(plain, facts, of, None)
    artefact.write(Path("set.h5"), whole.header, whole.arrays)
    return whole


def literature() -> Normaliser:
    assert CIFAR10.literature is not None
    return normalise.given(*CIFAR10.literature)


def exported(cli: Cli) -> tuple[list[torch.Tensor], dict[str, Any], str]:
    """The tensors and the configuration of an export of set.h5, and what was said."""
    said = cli._invoke(["export", "set.h5", "--to", "ddranking", "--force"]).stderr
    tensors = [torch.load(OUT / f"{name}.pt", weights_only=True) for name in ("images", "labels", "lr")]
    return tensors, YAML(typ="safe").load((OUT / "config.yaml").read_text()), said


@pytest.mark.parametrize("soft", [False, True])
def test_tensors_are_the_sets_and_the_configuration_is_its_protocol(cli: Cli, soft: bool) -> None:
    own = packing.decoded(made(literature(), soft))
    (images, labels, lr), values, said = exported(cli)
    assert torch.equal(images, own.variants["synthetic"])
    assert torch.equal(labels, own.labels)
    assert float(lr) == own.lr
    assert (values["dataset"], values["ipc"], values["im_size"]) == ("CIFAR10", 2, [32, 32])
    assert values["model_name"] == "ConvNet-3"
    assert (values["num_epochs"], values["step_size"], values["syn_batch_size"]) == (1000, 500, 256)
    assert not values["use_zca"]
    assert values.get("soft_label_mode") == ("S" if soft else None)
    assert "stands for it" not in said
    assert "whole score" not in said
    assert (OUT / "score.py").read_text() == Path(ddranking_score.__file__).read_text()
    assert "can only be written" in refused(cli, "import", str(OUT), "--from", "ddranking")


def test_images_are_normalised_by_the_figures_that_it_uses(cli: Cli) -> None:
    own = normalise.given((0.4, 0.5, 0.6), (0.3, 0.2, 0.1))
    whole = made(own)
    (images, _, _), _, _ = exported(cli)
    pictures = own.inverse(packing.decoded(whole).variants["synthetic"])
    assert torch.allclose(literature().inverse(images), pictures, atol=1e-5)
    assert not torch.allclose(images, packing.decoded(whole).variants["synthetic"], atol=0.1)


def test_whitened_images_stay_whitened(cli: Cli) -> None:
    size = CIFAR10.values
    mean, vectors = np.zeros(size, np.float32), np.eye(size, dtype=np.float32)
    own = Normaliser("zca", mean, vectors=vectors, values=np.ones(size), eps=0.1)
    whole = made(own, prepare={"dataset": "cifar10", "validation": 100, "limit_per_class": None})
    normaliser.write(Path("normaliser.h5"), whole.header.about, {}, own)
    (images, _, _), values, said = exported(cli)
    assert torch.equal(images, packing.decoded(whole).variants["synthetic"])
    assert values["use_zca"]
    assert "the set's own whitening: it fits one on all training images, with eps 0.1" in said


@pytest.mark.parametrize(
    ("network", "name", "same", "trained"),
    [
        ({"arch": "convnet", "depth": 4, "norm": "batch", "width": 128}, "ConvNet-4-BN", True, False),
        ({"arch": "convnet", "depth": 3, "norm": "instance", "width": 32}, "ConvNet-3", False, True),
        ({"arch": "convnet", "depth": 3, "norm": "instance", "pooling": "max"}, "ConvNet-3", False, True),
        ({"arch": "convnetbn"}, "ConvNet-3-BN", True, True),
        ({"arch": "resnet18bn"}, "ResNet-18-BN", True, False),
        ({"arch": "vit"}, "ConvNet-3", False, True),
    ],
)
def test_networks_have_its_names(cli: Cli, network: dict[str, Any], name: str, same: bool, trained: bool) -> None:
    made(literature(), network=network)
    _, values, said = exported(cli)
    assert values["model_name"] == name
    assert ("stands for it" in said) != same
    whole_score = f"its whole score: it does not say how {name} is trained on all images of CIFAR10"
    assert (whole_score in said) != trained


def test_datasets_that_it_does_not_know(cli: Cli) -> None:
    made(literature(), dataset="svhn")
    line = refused(cli, "export", "set.h5", "--to", "ddranking")
    assert "DD-Ranking does not know the dataset svhn; it knows cifar10, cifar100, tinyimagenet, imagenette" in line
    assert not OUT.exists()
    assert set(ddranking.DATASETS) <= set(registry.names("dataset"))
    assert set(ddranking.NETWORKS) <= set(registry.names("network"))
    assert Path("set.h5").exists()
    assert artefact.kind_of(Path("set.h5")) == KIND


def run_script(**config: Any) -> None:
    """What `python score.py` does, with such lines in config.yaml."""
    path = OUT / "config.yaml"
    values = YAML(typ="safe").load(path.read_text()) | config
    with path.open("w") as file:
        YAML(typ="safe").dump(values, file)
    runpy.run_path(str(OUT / "score.py"), run_name="score")["main"]()


@pytest.fixture
def of_ddranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that stand for DD-Ranking's, with what the script reads before it scores."""
    for name in ("ddranking", "ddranking.config", "ddranking.metrics", "ddranking.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    config = type("Config", (dict,), {"from_file": lambda path: config(YAML(typ="safe").load(Path(path)))})
    sys.modules["ddranking.config"].Config = config
    sys.modules["ddranking.utils"].REAL_DATA_TRAINING_CONFIG = {"CIFAR10-ConvNet-3": {}}


@pytest.mark.usefixtures("of_ddranking")
def test_the_script_says_what_is_missing(cli: Cli) -> None:
    made(literature(), soft=True)
    exported(cli)
    with pytest.raises(SystemExit) as ended:
        run_script(model_name="VGG-11")
    assert "does not say how VGG-11 is trained on all images of CIFAR10, only CIFAR10-ConvNet-3; choose" in str(ended)
    with pytest.raises(SystemExit) as ended:
        run_script(model_name="ConvNet-3")
    assert "teacher_models/CIFAR10/ConvNet-3/ckpt_best.pt is missing" in str(ended)


def test_classes_are_found_by_tensors_too() -> None:
    classes = ddranking_score.ByNumber({0: 5, 1: 6})
    assert (classes[1], classes[torch.tensor(0)]) == (6, 5)
    with pytest.raises(KeyError):
        classes[torch.tensor(2)]


class Cifar:
    """Stands for torchvision's dataset: 30 random images, whose labels are tensors where they were whitened."""

    def __init__(self, *words: Any, whitened: bool = False, **more: Any) -> None:
        numbers = torch.arange(30) % 10
        self.targets = numbers if whitened else numbers.tolist()
        self.images = torch.randn(30, 3, 32, 32)

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        return self.images[index], self.targets[index]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("soft", "whitened"), [(False, True), (True, False)])
def test_its_own_score_runs_to_its_end(
    cli: Cli, soft: bool, whitened: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ddranking")
    from ddranking.utils import build_model
    from torchvision import datasets

    load: Callable[..., Cifar] = lambda *words, **more: Cifar(whitened=whitened)  # noqa: E731
    monkeypatch.setattr(datasets, "CIFAR10", load)
    made(literature(), soft)
    exported(cli)
    teacher = Path("teacher_models/CIFAR10/ConvNet-3/ckpt_best.pt")
    teacher.parent.mkdir(parents=True)
    torch.save(build_model("ConvNet-3", num_classes=10, im_size=(32, 32), device="cpu").state_dict(), teacher)
    run_script(num_epochs=20, step_size=10, num_eval=1, real_batch_size=10)
    said = capsys.readouterr().out
    for part in (
        "Syn data hard",
        "Full data hard",
        f"Random data {'soft' if soft else 'hard'}",
        "Label-Robust Score Mean",
    ):
        assert part in said
    names, *runs = Path("results/scores.csv").read_text().splitlines()
    assert names == "hard_label_recovery,improvement_over_random,lrs"
    assert len(runs) == 1
