"""What all benchmarks work on: ConvNetD3 on 32x32 colour images of ten classes, made of the embedded real digits."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from attcli.data.sources import digits
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.runtime import stream
from attcli.trainers.training import Optimiser, train_epoch

DSA = "color_crop_cutout_flip_scale_rotate"
CONVNET = Architecture("convnet", 3, 10, 32, {})
SPAN = 2
"""The epochs of the expert that are matched."""


@cache
def images(count: int) -> tuple[Tensor, Tensor]:
    """Standardised digits, enlarged from 8x8 to 3x32x32 and repeated up to `count`, with their labels."""
    train = digits.load(Path(), "digits").train
    pixels, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    x = torch.nn.functional.interpolate(pixels.float(), size=(32, 32), mode="bilinear", align_corners=False)
    x = ((x - x.mean()) / x.std()).expand(-1, 3, -1, -1)
    index = torch.arange(count) % len(x)
    return x[index].contiguous(), labels[index]


@cache
def span() -> tuple[Tensor, Tensor]:
    """An expert's parameters after its first epoch and SPAN epochs later."""
    torch.manual_seed(0)
    module = CONVNET.build()
    theta, optimiser = vector(module), Optimiser(0.01, 0.0, 0.0)
    x, y = images(1024)
    rows = []
    for epoch in range(1 + SPAN):
        options = {"classes": 10, "batch": 256, "strategy": DSA, "generator": stream(0, "benchmark-expert", epoch)}
        train_epoch(Student.of(module), theta, optimiser, x, y, **options)  # type: ignore[arg-type]
        rows.append(theta.clone())
    return rows[0], rows[-1]
