"""Tiny ImageNet's three layouts, and the subsets of ImageNet, from small generated files."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from attcli import registry
from attcli.data import sources
from attcli.data.sources.imagenet import CLASSES
from attcli.errors import UserError
from tests.data.pictures import picture, request

IDS = ("n02124075", "n01443537", "n04067472")


def tiny(folder: Path) -> Path:
    """Three classes of Tiny ImageNet in its official layout."""
    root = folder / "tiny-imagenet-200"
    lines = []
    for number, name in enumerate(IDS):
        for i in range(3):
            picture(root / "train" / name / "images" / f"{name}_{i}.JPEG", seed=10 * number + i, size=(64, 64))
        (root / "train" / name / f"{name}_boxes.txt").write_text("boxes")
        image = f"val_{9 - number}.JPEG"
        picture(root / "val" / "images" / image, seed=100 + number, size=(64, 64))
        lines.append(f"{image}\t{name}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    picture(root / "test" / "images" / "test_0.JPEG")
    return root


def labelled(source: sources.Source) -> dict[bytes, int]:
    images = source.test.read(np.arange(len(source.test.labels)))
    return {image.tobytes(): label for image, label in zip(images, source.test.labels.tolist(), strict=True)}


def test_the_three_layouts_of_tiny_imagenet_are_the_same(tmp_path: Path) -> None:
    root = tiny(tmp_path)
    official = sources.load(request(tmp_path, "tinyimagenet"))
    assert official.classes == sorted(IDS)
    assert official.train.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert official.train.name(0) == "train/n01443537/images/n01443537_0.JPEG"
    assert official.test.labels.tolist() == [2, 0, 1]  # val_7, val_8, val_9
    wanted = labelled(official)
    info = sources.describe(request(tmp_path, "tinyimagenet"))
    assert (info.resolution, info.train, info.smallest_class, info.test) == (64, 9, 3, 3)
    assert info.literature == registry.dataset("tinyimagenet").literature
    for number, name in enumerate(IDS):
        for below in (root / "val" / "images", root / "other"):
            (below / name).mkdir(parents=True)
            shutil.copy(root / "val" / "images" / f"val_{9 - number}.JPEG", below / name)
        (root / "val" / "images" / f"val_{9 - number}.JPEG").unlink()
    assert labelled(sources.load(request(root, "tinyimagenet"))) == wanted  # val/images/<class>
    shutil.rmtree(root / "val")
    shutil.move(root / "other", root / "val")
    assert labelled(sources.load(request(root, "tinyimagenet"))) == wanted  # val/<class>


def test_damaged_layouts_of_tiny_imagenet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tinyimagenet is not in .*; unpack it there, or name its folder"):
        sources.load(request(tmp_path, "tinyimagenet"))
    root = tiny(tmp_path)
    annotations = root / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text().replace("n02124075", "n99999999"))
    with pytest.raises(UserError, match=r"gives val/images/val_9.JPEG no class that train/ has"):
        sources.load(request(tmp_path, "tinyimagenet"))
    annotations.unlink()
    picture(root / "val" / "images" / "val_1.JPEG")
    with pytest.raises(UserError, match=r"val_annotations\.txt is missing"):
        sources.load(request(tmp_path, "tinyimagenet"))
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    with pytest.raises(UserError, match="has no images"):
        sources.load(request(tmp_path, "tinyimagenet"))


def test_facts_of_absent_datasets_are_those_of_the_complete_ones(tmp_path: Path) -> None:
    assert sources.describe(request(tmp_path, "tinyimagenet")) == registry.dataset("tinyimagenet")
    assert sources.describe(request(tmp_path, "imagewoof", resolution=64)).resolution == 64


@pytest.mark.parametrize("inner", ["", "imagenet", "imagemeow"])
def test_a_subset_of_imagenet_has_its_labels_in_the_lists_order(tmp_path: Path, inner: str) -> None:
    wanted = list(CLASSES["imagemeow"])
    for part, count in (("train", 2), ("val", 1)):
        for number, name in enumerate([*wanted, "n01440764"]):
            for i in range(count):
                size = (20 + number, 10)
                picture(tmp_path / inner / part / name / f"{part}_{i}.JPEG", seed=i, size=size)
    source = sources.load(request(tmp_path, "imagemeow", resolution=16))
    assert source.classes[5:8] == ["lion", "tiger", "jaguar"]
    assert source.train.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert [source.train.name(2 * i).split("/")[1] for i in range(10)] == wanted
    assert source.test.read(np.array([9])).shape == (1, 3, 16, 16)
    assert sources.describe(request(tmp_path, "imagemeow")).resolution == 128
    shutil.rmtree(tmp_path / inner / "val" / wanted[3])
    with pytest.raises(UserError, match=r"val has no folder n02123597 \(Siamese cat\)"):
        sources.load(request(tmp_path, "imagemeow"))


def test_classes_of_the_subsets_are_those_of_the_published_indices() -> None:
    """The published lists are positions among the 1,000 classes; torchvision has their names in that order."""
    from torchvision.models import _meta

    names = list(_meta._IMAGENET_CATEGORIES)
    published = {
        "imagenette": (0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
        "imagewoof": (193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
        "imagefruit": (953, 954, 949, 950, 951, 957, 952, 945, 943, 948),
        "imageyellow": (309, 986, 954, 951, 987, 779, 599, 291, 72, 11),
        "imagemeow": (281, 282, 283, 284, 285, 291, 292, 290, 289, 287),
        "imagesquawk": (84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
    }
    assert {subset: list(ids.values()) for subset, ids in CLASSES.items()} == {
        subset: [names[position] for position in positions] for subset, positions in published.items()
    }
    together = {name: identifier for ids in CLASSES.values() for identifier, name in ids.items()}
    in_order = sorted(together, key=names.index)
    assert [together[name] for name in in_order] == sorted(together.values())  # positions follow the sorted ids
