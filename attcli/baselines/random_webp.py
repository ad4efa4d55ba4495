"""Random images of each class as WebP files, as many as the set's bytes hold: what any library would make of the bytes.

Lossy WebP at a fixed quality. A class takes images in random order while the bytes of their files together are at most
those of the set's class, and at least one.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from attcli.baselines import Baseline, Budget, Candidates

if TYPE_CHECKING:
    import torch
    from torch import Tensor

QUALITY = 50
SMALLEST = 64
"""No WebP file of a picture is smaller than about this, in bytes."""


def per_class(budget: Budget) -> int:
    """As many images as could fit at most; fewer of them will."""
    return max(1, int(budget.bytes // SMALLEST))


def select(candidates: Candidates, generator: torch.Generator) -> Tensor:
    """The indices of so many random images of each class, or of all where it has fewer, class by class."""
    from attcli.data.inputs import of_each_class

    counts = [min(candidates.per_class, len(members)) for members in candidates.members()]
    return of_each_class(candidates.labels, counts, generator)


def kept(images: Tensor, labels: Tensor, budget: Budget) -> tuple[Tensor, Tensor]:
    """The images that fit, as they are read back from their files."""
    import torch

    normaliser = budget.coding.space.known
    pixels = (normaliser.inverse(images).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    left: dict[int, float] = dict.fromkeys(labels.tolist(), budget.bytes)
    fitting, pictures = [], []
    for index, label in enumerate(labels.tolist()):
        file = _file(pixels[index])
        first = left[label] == budget.bytes
        if left[label] < len(file) and not first:
            left[label] = 0.0
            continue
        left[label] = max(0.0, left[label] - len(file))
        fitting.append(index)
        pictures.append(_picture(file, len(pixels[index])))
    plain = torch.stack(pictures).to(images) / 255
    return normaliser.forward(plain), labels[torch.tensor(fitting, device=labels.device)]


def _file(pixels: Tensor) -> bytes:
    """A picture u8 (C, H, W) as the bytes of a WebP file."""
    from PIL import Image

    array = pixels.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array if len(pixels) == 3 else array[..., 0])
    file = io.BytesIO()
    picture.convert("RGB").save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def _picture(file: bytes, channels: int) -> Tensor:
    """The picture u8 (C, H, W) in a WebP file."""
    import numpy as np
    import torch
    from PIL import Image

    with Image.open(io.BytesIO(file)) as picture:
        array = np.atleast_3d(np.asarray(picture.convert("RGB" if channels == 3 else "L")))
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


BASELINE = Baseline(select, per_class=per_class, kept=kept)
