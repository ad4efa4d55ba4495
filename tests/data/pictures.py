"""Small image files, made when a test needs them."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from attcli.options import Request
from attcli.settings.models import Prepare

OLD = 1_600_000_000
"""A time of change long ago, so that what was found out about a file is kept."""


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    """A file of random pixels; its format follows from its name."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if bands == 1 else pixels, mode).save(path)
    os.utime(path, (OLD, OLD))
    return path


def classes(root: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 5, suffix: str = "png") -> Path:
    """A folder for each class, with so many pictures."""
    for number, name in enumerate(names):
        for i in range(count):
            picture(root / name / f"{i}.{suffix}", seed=100 * number + i)
    return root


def request(root: Path, name: str = "folder", seed: int = 0, **options: object) -> Request:
    """What `prepare` asks of a source, with these options."""
    prepare = Prepare.model_validate({"dataset": name, **options})
    return Request(name, root, prepare, seed, root.parent / "work")
