"""What DD-Ranking takes in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from attcli import registry
from attcli.data import normalise
from attcli.data.normalise import Normaliser
from attcli.interchange import Plain, Whole, ddranking, packing
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
    ("network", "name", "same"),
    [
        ({"arch": "convnet", "depth": 4, "norm": "batch", "width": 128}, "ConvNet-4-BN", True),
        ({"arch": "convnet", "depth": 3, "norm": "instance", "width": 32}, "ConvNet-3", False),
        ({"arch": "convnet", "depth": 3, "norm": "instance", "pooling": "max"}, "ConvNet-3", False),
        ({"arch": "convnetbn"}, "ConvNet-3-BN", True),
        ({"arch": "resnet18bn"}, "ResNet-18-BN", True),
        ({"arch": "vit"}, "ConvNet-3", False),
    ],
)
def test_networks_have_its_names(cli: Cli, network: dict[str, Any], name: str, same: bool) -> None:
    made(literature(), network=network)
    _, values, said = exported(cli)
    assert values["model_name"] == name
    assert ("stands for it" in said) != same


def test_datasets_that_it_does_not_know(cli: Cli) -> None:
    made(literature(), dataset="svhn")
    line = refused(cli, "export", "set.h5", "--to", "ddranking")
    assert "DD-Ranking does not know the dataset svhn; it knows cifar10, cifar100, tinyimagenet, imagenette" in line
    assert not OUT.exists()
    assert set(ddranking.DATASETS) <= set(registry.names("dataset"))
    assert set(ddranking.NETWORKS) <= set(registry.names("network"))
    assert Path("set.h5").exists()
    assert artefact.kind_of(Path("set.h5")) == KIND
