"""What DD-Ranking takes in: images.pt, labels.pt and lr.pt, class by class, how to score them, and what scores them.

Its networks see images that are normalised by the literature's figures, or whitened by ZCA (eps 0.1) that it fits
itself; images that were standardised by other figures are normalised anew. Soft labels are logits, as here.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attcli import registry
from attcli.errors import UserError
from attcli.interchange import Format, packing, tensors
from attcli.options import DSA

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.data.normalise import Normaliser
    from attcli.interchange import Whole

FORMAT = Format("what DD-Ranking scores: images.pt, labels.pt, lr.pt, config.yaml and score.py", reads=False)
TENSORS = ("images.pt", "labels.pt", "lr.pt")
CONFIGURATION, SCRIPT = "config.yaml", "score.py"

DATASETS = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "tinyimagenet": "TinyImageNet",
    **{f"image{name}": f"Image{name.title()}" for name in ("nette", "woof", "meow", "squawk", "fruit", "yellow")},
}
"""What it calls the datasets that it knows."""

NETWORKS = {
    "alexnet": "AlexNet",
    "lenet": "LeNet",
    "mlp": "MLP",
    "resnet18": "ResNet-18",
    "resnet18bn": "ResNet-18-BN",
    "vgg11": "VGG-11",
    "vgg11bn": "VGG-11-BN",
}
"""What it calls the networks that it has, beside ConvNets."""

WIDTH = 128
"""The width of its ConvNets."""

TRAINED = {
    "CIFAR10": ("ConvNet-3", "ConvNet-3-BN"),
    "CIFAR100": ("ConvNet-3", "ConvNet-3-BN"),
    "TinyImageNet": ("ConvNet-4-BN", "ResNet-18-BN"),
}
"""The networks that it knows how to train on all real images, which its whole score needs."""

ZCA_EPS = 0.1
AUGMENTATION = {
    "flip": 0.5,
    "rotate": 15.0,
    "saturation": 2.0,
    "brightness": 1.0,
    "contrast": 0.5,
    "scale": 1.2,
    "crop": 0.125,
    "cutout": 0.5,
}
"""DSA's strengths, which are those of attcli's augmentation."""


def recognises(path: Path) -> bool:
    """Never: it is only written."""
    return False


def _network(about: dict[str, Any]) -> tuple[str, bool]:
    """What it calls the network of a set, or the ConvNet that stands for it; and whether it is the same one."""
    from attcli.networks import convnet

    own = about["network"]
    if own["arch"] in NETWORKS:
        return NETWORKS[own["arch"]], True
    depth = own.get("depth") or convnet.depth_for(about["resolution"])
    norm = "batch" if own["arch"] == "convnetbn" else own.get("norm", "instance")
    plain = {"pooling": "avg", "activation": "relu", "width": WIDTH}
    same = own["arch"] in ("convnet", "convnetbn") and norm in ("instance", "batch")
    same = same and all(own.get(name, value) == value for name, value in plain.items())
    return f"ConvNet-{depth}{'-BN' if norm == 'batch' else ''}", same


def losses(whole: Whole, variant: str) -> list[str]:
    """What it has no place for, or takes in another way."""
    about = whole.header.about
    lost = [*packing.of_the_code(whole, variant), *packing.of_the_other(whole, variant)]
    name, same = _network(about)
    if not same:
        lost.append(f"the network {about['network']}: {name} of width {WIDTH} stands for it")
    dataset = DATASETS.get(about["dataset"], about["dataset"])
    if name not in TRAINED.get(dataset, ()):
        lost.append(f"its whole score: it does not say how {name} is trained on all images of {dataset}")
    kept = about.get("prepare") or {}
    partly = kept.get("validation") or kept.get("limit_per_class")
    if about["normaliser"]["kind"] == "zca" and (partly or about["normaliser"]["eps"] != ZCA_EPS):
        lost.append(f"the set's own whitening: it fits one on all training images, with eps {ZCA_EPS}")
    if about["protocol"]["augment"] not in (DSA, "none"):
        lost.append(f"the augmentation {about['protocol']['augment']}: it takes all of DSA")
    return [*lost, "the settings that the set was made with"]


def files(folder: Path, whole: Whole) -> list[Path]:
    """What `write` writes. UserError for a dataset that it does not know."""
    if whole.header.about["normaliser"]["kind"] == "contrast":
        raise UserError("DD-Ranking can't normalise images as prepare.normalise contrast does; use another form")
    name = whole.header.about["dataset"]
    if name not in DATASETS:
        raise UserError(f"DD-Ranking does not know the dataset {name}; it knows {', '.join(DATASETS)}")
    if whole.header.about["normaliser"]["kind"] != "zca":
        whole.known_normaliser()
    return [folder / name for name in (*TENSORS, CONFIGURATION, SCRIPT)]


def write(folder: Path, whole: Whole, variant: str) -> None:
    """Write the tensors, how they are to be scored, and the script that does it."""
    import torch

    from attcli.interchange import ddranking_score
    from attcli.store.files import write_text

    distilled = packing.decoded(whole)
    images = _normalised(distilled.variants[variant], whole)
    for name, value in zip(TENSORS, (images, distilled.labels, torch.from_numpy(whole.arrays["lr"])), strict=True):
        tensors.save(folder / name, value.contiguous().clone())
    write_text(folder / CONFIGURATION, configuration(whole))
    write_text(folder / SCRIPT, Path(ddranking_score.__file__).read_text(encoding="utf-8"))


def _normalised(images: Tensor, whole: Whole) -> Tensor:
    """Network inputs as its networks take them."""
    from attcli.data import normalise

    own, figures = whole.normaliser, registry.dataset(whole.header.about["dataset"]).literature
    if whole.header.about["normaliser"]["kind"] == "zca" or own is None or figures is None:
        return images.float()
    theirs: Normaliser = normalise.given(*figures)
    if theirs.digest() == own.digest():
        return images.float()
    return theirs.forward(own.inverse(images.double())).float()


def configuration(whole: Whole) -> str:
    """The configuration, in YAML."""
    from ruamel.yaml import YAML

    from attcli.scoring.protocol import Protocol

    about, distilled = whole.header.about, packing.decoded(whole)
    soft, own, plain = distilled.labels.is_floating_point(), about["protocol"], Protocol()
    epochs = own.get("epochs") or plain.epochs
    values: dict[str, Any] = {
        "dataset": DATASETS[about["dataset"]],
        "real_data_path": "./dataset/",
        "ipc": len(distilled.labels) // len(about["classes"]),
        "im_size": [about["resolution"]] * 2,
        "model_name": _network(about)[0],
        "stu_use_torchvision": False,
        "tea_use_torchvision": False,
        "use_torchvision": False,
        "use_zca": about["normaliser"]["kind"] == "zca",
        "data_aug_func": "dsa" if own["augment"] != "none" else None,
        "aug_params": dict(AUGMENTATION),
        "use_aug_for_hard": True,
        "optimizer": "sgd",
        "lr_scheduler": "step",
        "step_size": max(1, epochs // 2),
        "momentum": plain.momentum if own.get("momentum") is None else own["momentum"],
        "weight_decay": plain.weight_decay if own.get("weight_decay") is None else own["weight_decay"],
        "num_epochs": epochs,
        "num_eval": 5,
        "syn_batch_size": own.get("batch") or plain.batch,
        "real_batch_size": 256,
        "eval_full_data": True,
        "random_data_format": "tensor",
        "random_data_path": "./random_data/",
        "custom_train_trans": None,
        "custom_val_trans": None,
        "num_workers": 0,
        "device": "cuda",
        "dist": False,
        "save_path": "./results/scores.csv",
    }
    if soft:
        values |= {
            "soft_label_mode": "S",
            "soft_label_criterion": "sce",
            "loss_fn_kwargs": {"temperature": 1.0, "scale_loss": False},
            "teacher_dir": "./teacher_models",
            "teacher_model_names": [values["model_name"]],
        }
    text = io.StringIO()
    YAML().dump(values, text)
    return f"# How score.py scores the set. Change the paths, and what else is to be different.\n{text.getvalue()}"
