"""A dataset of two classes: stripes that lie, and stripes that stand."""

from attcli.data.sources import DatasetInfo, Images, Source

INFO = (DatasetInfo("stripes", "Stripes", classes=2, channels=1, resolution=8, train=80, smallest_class=40, test=40),)


def load(data_dir, name):
    """Noisy stripes, always the same."""
    import numpy as np

    random = np.random.default_rng(0)
    labels = np.arange(120) % 2
    lying = np.tile(np.repeat([[0], [200]], 4, axis=0).reshape(-1, 1), (1, 8))
    images = np.stack([lying if label else lying.T for label in labels]) + random.integers(0, 50, (120, 8, 8))
    images, labels = images[:, None].astype(np.uint8), labels.astype(np.int64)
    return Source(Images(images[:80], labels[:80]), Images(images[80:], labels[80:]), ["standing", "lying"])
