"""Street View House Numbers (Netzer et al., 2011), 32x32 colour, cropped digits, through torchvision."""

from pathlib import Path

from attcli.data import official
from attcli.data.sources import DatasetInfo, Images, Source

LITERATURE = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)

INFO = (
    DatasetInfo(
        "svhn",
        "SVHN",
        10,
        3,
        32,
        73_257,
        smallest_class=4_659,
        test=26_032,
        literature=LITERATURE,
        download=246_345_290,
    ),
)


def load(data_dir: Path, name: str) -> Source:
    """The training and test parts (not the extra one), from `data_dir` or downloaded to it. UserError otherwise."""
    import numpy as np
    from torchvision import datasets

    def make(train: bool, download: bool) -> datasets.SVHN:
        return datasets.SVHN(str(data_dir), split="train" if train else "test", download=download)

    parts = official.parts(name, data_dir, "train_32x32.mat test_32x32.mat", make)
    train, test = (Images(np.ascontiguousarray(part.data), part.labels.astype(np.int64)) for part in parts)
    return Source(train, test, [str(n) for n in range(10)])
