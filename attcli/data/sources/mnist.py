"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017), 28x28 grey, through torchvision."""

from pathlib import Path

from attcli.data import official
from attcli.data.sources import DatasetInfo, Images, Source

INFO = (
    DatasetInfo(
        "mnist",
        "MNIST",
        10,
        1,
        28,
        60_000,
        smallest_class=5_421,
        test=10_000,
        literature=((0.1307,), (0.3081,)),
        download=11_594_722,
    ),
    DatasetInfo(
        "fashionmnist",
        "Fashion-MNIST",
        10,
        1,
        28,
        60_000,
        smallest_class=6_000,
        test=10_000,
        literature=((0.2861,), (0.3530,)),
        download=30_878_645,
    ),
)


def load(data_dir: Path, name: str) -> Source:
    """The official split, read from `data_dir` or else downloaded to it. UserError if neither works."""
    from torchvision import datasets

    dataset = {"mnist": datasets.MNIST, "fashionmnist": datasets.FashionMNIST}[name]
    parts = official.parts(
        name, data_dir, dataset.__name__, lambda train, download: dataset(str(data_dir), train=train, download=download)
    )
    train, test = (Images(part.data.numpy()[:, None], part.targets.long().numpy()) for part in parts)
    return Source(train, test, list(parts[0].classes))
