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

    from attcli.data.inputs import Inputs

QUALITY = 50
SMALLEST = 64
"""Hardly a WebP file is smaller than this, in bytes, even if the picture has one colour."""

SHARE = 0.9
"""At most this part of a class is taken, so that images are left to choose a learning rate on."""


def per_class(budget: Budget) -> int:
    """As many images as could fit at most; fewer of them will."""
    return max(1, int(budget.bytes // SMALLEST))


def select(candidates: Candidates, generator: torch.Generator) -> Tensor:
    """The indices of so many random images of each class, class by class; of fewer where it has too few."""
    from attcli.data.inputs import of_each_class

    counts = [min(candidates.per_class, max(1, int(SHARE * len(members)))) for members in candidates.members()]
    return of_each_class(candidates.labels, counts, generator)


def kept(images: Inputs, labels: Tensor, budget: Budget) -> tuple[Tensor, Tensor]:
    """The images that fit, as they are read back from their files. No others are read, as they may be many."""
    import torch

    normaliser = budget.coding.space.known
    fitting, pictures = [], []
    for label in labels.unique().tolist():
        spent = 0
        for index in (labels == label).nonzero().flatten().tolist():
            image = images[torch.tensor([index])]
            pixels = (normaliser.inverse(image)[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
            file = _file(pixels)
            if spent and spent + len(file) > budget.bytes:
                break
            spent += len(file)
            fitting.append(index)
            pictures.append(_picture(file, len(pixels)))
    plain = torch.stack(pictures).to(image) / 255
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


BASELINE = Baseline(select, per_class=per_class, up_to=True, kept=kept)
