"""Real handwritten digits, 8x8 grey, from scikit-learn (the test part of UCI's Optical Recognition of Digits)."""

from pathlib import Path

from attcli.data.sources import DatasetInfo, Images, Source

DIGITS = DatasetInfo(
    name="digits",
    title="scikit-learn's handwritten digits",
    classes=10,
    channels=1,
    resolution=8,
    train=1347,
    smallest_class=131,
    test=450,
    value_scale=1 / 16,
    download=0,
)
INFO = (DIGITS,)


def load(data_dir: Path, name: str) -> Source:
    """All 1,797 digits, a quarter of each class for testing: always the same split."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=DIGITS.test, stratify=labels, random_state=0)
    return Source(Images(images[train], labels[train]), Images(images[test], labels[test]), [str(n) for n in range(10)])
