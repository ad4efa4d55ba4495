"""Random real images that are kept in as many bytes as a set: in its own form, and as WebP."""

import io
from typing import Any, cast

import pytest
import torch
from PIL import Image

from attcli import coding, runtime
from attcli.baselines import Budget, Candidates, load, paid, random_webp
from attcli.data import normalise
from attcli.parameterisations import Space

CLASSES, SIDE = 3, 32
MULTIFORMATION = {
    "parameterisation": {"name": "multiformation", "factor": 2},
    "storage": {"name": "uint8", "scales_every": 50, "scales_until": 4000},
}


def smooth(number: int, channels: int, seed: int = 0) -> torch.Tensor:
    """Pictures f32 (n, C, 32, 32) in [0, 1], whole numbers of 255 parts, that compress."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((number, channels, 4, 4), generator=generator)
    return (torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear") * 255).round() / 255


def budget(channels: int, spent: float, images: int = 16) -> Budget:
    """A set's budget."""
    space = Space(channels, SIDE, normalise.fit("standardise", smooth(200, channels, 9), 0.1))
    return Budget(1, images, spent, coding.load(MULTIFORMATION, space))


def test_random_images_are_kept_as_the_set_is() -> None:
    cost, labels = budget(3, 12_288.0), torch.arange(CLASSES).repeat_interleave(16)
    baseline = load("random-kept")
    assert (baseline.per_class(cost), load("random").per_class(cost), paid(cost)) == (16, 1, 1)
    plain = smooth(len(labels), 3)
    normaliser = cost.coding.space.known
    assert baseline.kept is not None
    seen, classes = baseline.kept(normaliser.forward(plain), labels, cost)
    assert torch.equal(classes, labels)
    means = plain.view(-1, 3, 16, 2, 16, 2).mean(dim=(3, 5))
    grid = (means * 255).round() / 255
    enlarged = torch.nn.functional.interpolate(grid, size=SIDE, mode="bilinear", align_corners=False)
    assert float((normaliser.inverse(seen) - enlarged).abs().max()) < 2.5 / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spent", [1.0, 300.0, 2000.0])
def test_webp_files_take_at_most_the_bytes_of_the_set(channels: int, spent: float) -> None:
    cost, labels = budget(channels, spent), torch.arange(CLASSES).repeat_interleave(20)
    plain, normaliser = smooth(len(labels), channels), cost.coding.space.known
    seen, classes = random_webp.kept(normaliser.forward(plain), labels, cost)
    pictures, reread = {}, []
    for label in range(CLASSES):
        used = []
        for image in plain[labels == label]:
            file = io.BytesIO()
            array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            picture = Image.fromarray(array if channels == 3 else array[..., 0]).convert("RGB")
            picture.save(file, "WEBP", quality=random_webp.QUALITY, method=6)
            if used and sum(used) + len(file.getvalue()) > spent:
                break
            used.append(len(file.getvalue()))
            reread.append(Image.open(file).convert("RGB" if channels == 3 else "L"))
        pictures[label] = len(used)
        assert len(used) == 1 or sum(used) <= spent
    assert torch.bincount(classes, minlength=CLASSES).tolist() == list(pictures.values())
    if spent == 2000.0:
        assert min(pictures.values()) > 3
    for inputs, picture in zip(seen, reread, strict=True):
        back = (normaliser.inverse(inputs[None])[0] * 255).round().clamp(0, 255).to(torch.uint8)
        wanted = torch.tensor(list(picture.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, -1).permute(2, 0, 1)
        assert int((back.int() - wanted.int()).abs().max()) <= 1


def test_webp_takes_most_images_of_a_small_class() -> None:
    labels = torch.tensor([0] * 4 + [1] * 9)
    assert load("random-webp").up_to
    candidates = Candidates(labels, 7, 2, lambda rows: rows.double(), lambda: labels)
    picked = random_webp.select(candidates, runtime.stream(0, "random-webp-images", 0))
    assert labels[picked].tolist() == [0] * 3 + [1] * 7
    assert random_webp.per_class(budget(3, 12_288.0)) == 192
    assert random_webp.per_class(budget(3, 10.0)) == 1


class Counted:
    """Images that count which of them are read."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images
        self.read: list[int] = []

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        self.read += index.tolist()
        return self.images[index]


def test_images_that_do_not_fit_are_not_read() -> None:
    cost, labels = budget(3, 700.0), torch.arange(CLASSES).repeat_interleave(200)
    counted = Counted(cost.coding.space.known.forward(smooth(len(labels), 3)))
    _, classes = random_webp.kept(cast(Any, counted), labels, cost)
    fitting = torch.bincount(classes, minlength=CLASSES)
    assert len(counted.read) == int(fitting.sum()) + CLASSES < len(labels) / 2
    assert random_webp.per_class(budget(1, 196_608.0)) == 3072
