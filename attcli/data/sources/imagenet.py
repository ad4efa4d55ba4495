"""Tiny ImageNet and the ten-class subsets of ImageNet: known to the recipes; their images cannot be read yet."""

from pathlib import Path

from attcli.data.sources import DatasetInfo, Source
from attcli.errors import UserError

SMALLEST_CLASS = 732
"""The fewest training images of any of ImageNet's classes, so a bound for each subset's."""

LITERATURE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's customary statistics."""

TITLES = {
    "imagenette": "ImageNette",
    "imagewoof": "ImageWoof",
    "imagefruit": "ImageFruit",
    "imageyellow": "ImageYellow",
    "imagemeow": "ImageMeow",
    "imagesquawk": "ImageSquawk",
}

INFO = (
    DatasetInfo(
        "tinyimagenet",
        "Tiny ImageNet",
        classes=200,
        channels=3,
        resolution=64,
        train=100_000,
        smallest_class=500,
        test=10_000,
        literature=LITERATURE,
        readable=False,
    ),
    *(
        DatasetInfo(
            name,
            title,
            classes=10,
            channels=3,
            resolution=128,
            train=10 * SMALLEST_CLASS,
            smallest_class=SMALLEST_CLASS,
            test=500,
            literature=LITERATURE,
            readable=False,
        )
        for name, title in TITLES.items()
    ),
)


def load(data_dir: Path, name: str) -> Source:
    """UserError: reading image folders is still to come."""
    raise UserError(f"{name}: source not available yet; choose --dataset digits, cifar10 or cifar100")
