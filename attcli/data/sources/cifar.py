"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), 32x32 colour, through torchvision: its download and its MD5 check."""

from pathlib import Path

from attcli.data import official
from attcli.data.sources import DatasetInfo, Images, Source

LITERATURE = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""What the literature's codes standardise both datasets with; neither dataset has just these statistics."""

INFO = (
    DatasetInfo(
        "cifar10",
        "CIFAR-10",
        10,
        3,
        32,
        50_000,
        5_000,
        10_000,
        1 / 255,
        LITERATURE,
        normalise="zca",
        download=170_498_071,
    ),
    DatasetInfo(
        "cifar100",
        "CIFAR-100",
        100,
        3,
        32,
        50_000,
        500,
        10_000,
        1 / 255,
        LITERATURE,
        normalise="zca",
        download=169_001_437,
    ),
)


def load(data_dir: Path, name: str) -> Source:
    """The official split, read from `data_dir` or else downloaded to it. UserError if neither works."""
    import numpy as np
    from torchvision import datasets

    dataset = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    parts = official.parts(
        name,
        data_dir,
        dataset.base_folder,
        lambda train, download: dataset(str(data_dir), train=train, download=download),
    )
    train, test = (
        Images(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, np.int64))
        for part in parts
    )
    return Source(train, test, list(parts[0].classes))
