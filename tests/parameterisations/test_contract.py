"""Every parameterisation keeps the contract that distilling relies on."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attcli import parameterisations, registry
from attcli.data import normalise
from attcli.errors import UserError
from attcli.parameterisations import Coded, Parameterisation, Space, frequency

NAMES = sorted(path.stem for path in Path(parameterisations.__file__).parent.glob("*.py") if path.stem != "__init__")
OPTIONS: dict[str, dict[str, Any]] = {"frequency": {"frequencies": 20}}
CLASSES, UNITS, SIDE = 3, 2, 8


def space(kind: str = "zca", side: int = SIDE) -> Space:
    """Colour images under a normaliser that was fitted on random ones."""
    images = torch.rand((300, 3, side, side), generator=torch.Generator().manual_seed(5))
    return Space(3, side, normalise.fit(kind, images, 0.1))


def made(name: str, **options: Any) -> Parameterisation:
    """A parameterisation with its default options, or these."""
    defaults = {key: field.default for key, field in registry.options("parameterisation", name).items()}
    return parameterisations.load(name, **{**defaults, **OPTIONS.get(name, {}), **options})


def encoded(name: str, where: Space | None = None, **options: Any) -> tuple[Parameterisation, Coded, torch.Tensor]:
    """A parameterisation, and two units of each class of random images in float64 that it has encoded."""
    where, choice = where or space(), made(name, **options)
    labels = torch.arange(CLASSES).repeat_interleave(UNITS * choice.images_per_unit)
    size = (len(labels), 3, where.side, where.side)
    images = where.known.forward(torch.rand(size, generator=torch.Generator().manual_seed(0)).double())
    return choice, choice.encode(images, labels, where), images


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zca", "standardise"])
def test_decoding_gives_as_many_images_of_the_same_shape_and_type(name: str, kind: str) -> None:
    where = space(kind)
    choice, coded, images = encoded(name, where)
    decoded = choice.decode(coded, where)
    assert decoded.shape == images.shape
    assert decoded.dtype == images.dtype
    assert all(x.dtype == images.dtype for x in coded.learned.values())
    shapes = choice.unit(3, SIDE)
    assert {key: tuple(x.shape) for key, x in coded.learned.items()} == {
        key: (CLASSES * UNITS, *shape) for key, shape in shapes.items()
    }
    assert sum(x.nbytes for x in coded.constants.values()) == CLASSES * choice.constant_bytes(SIDE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zca", "standardise"])
def test_gradients_are_pulled_back_as_finite_differences_say(name: str, kind: str) -> None:
    where = space(kind)
    choice, coded, images = encoded(name, where)
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).double()
    pulled = parameterisations.pull_back(choice, coded, where, weights)
    assert pulled.keys() == coded.learned.keys()
    for key, x in coded.learned.items():
        for index in (0, x.numel() // 2, x.numel() - 1):
            sums = {}
            for sign in (-1, 1):
                shifted = x.clone()
                shifted.view(-1)[index] += sign * 1e-5
                decoded = choice.decode(Coded({**coded.learned, key: shifted}, coded.constants), where)
                sums[sign] = float((weights * decoded).sum())
            slope = (sums[1] - sums[-1]) / 2e-5
            assert float(pulled[key].view(-1)[index]) == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_projecting_twice_is_projecting_once_and_keeps_the_limits(name: str) -> None:
    choice, coded, _ = encoded(name)
    far = Coded({key: 100 * x - 3 for key, x in coded.learned.items()}, coded.constants)
    once = choice.project(far)
    twice = choice.project(once)
    assert all(torch.equal(once.learned[key], twice.learned[key]) for key in far.learned)
    for key, (low, high) in choice.limits.items():
        assert low <= float(once.learned[key].min()) <= float(once.learned[key].max()) <= high


@pytest.mark.parametrize("name", NAMES)
def test_what_a_parameterisation_can_express_is_encoded_as_it_is(name: str) -> None:
    where = space()
    choice, coded, _ = encoded(name, where)
    once = choice.decode(coded, where)
    labels = torch.arange(CLASSES).repeat_interleave(UNITS * choice.images_per_unit)
    if name == "multiformation":
        # linear interpolation blurs: what comes back lies near it, not on it
        near = choice.decode(choice.encode(once, labels, where), where)
        assert float((near - once).abs().mean()) < 0.5 * float((once - once.mean()).abs().mean())
    else:
        assert torch.allclose(choice.decode(choice.encode(once, labels, where), where), once, atol=1e-10)


def test_pixels_are_the_images() -> None:
    choice, coded, images = encoded("pixels")
    assert torch.equal(choice.decode(coded, space()), images)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_cells_are_enlarged_as_torch_does_row_by_row(factor: int) -> None:
    side = 16
    where = space("standardise", side)
    choice, coded, images = encoded("multiformation", where, factor=factor)
    decoded = where.known.inverse(choice.decode(coded, where))
    cell = -(-side // factor)
    kept = coded.learned["cells"]
    for image in range(len(images)):
        unit, place = divmod(image, factor**2)
        row, column = divmod(place, factor)
        padded = torch.full((3, factor * cell, factor * cell), 0.5, dtype=torch.float64)
        padded[:, :side, :side] = kept[unit]
        part = padded[:, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        enlarged = torch.nn.functional.interpolate(part[None], size=(side, side), mode="bilinear", align_corners=False)
        assert torch.allclose(decoded[image], enlarged[0], atol=1e-6)
    assert choice.images_per_unit == factor**2


def test_a_cell_holds_the_means_of_the_image() -> None:
    where = space("standardise")
    _, coded, images = encoded("multiformation", where)
    plain = where.known.inverse(images)
    means = plain.view(len(images), 3, 4, 2, 4, 2).mean(dim=(3, 5))
    assert torch.allclose(coded.learned["cells"][1, :, :4, 4:], means[4 + 1].clamp(0, 1), atol=1e-6)


def test_frequencies_are_those_that_vary_most_within_the_class() -> None:
    choice, coded, images = encoded("frequency")
    index = np.arange(SIDE)
    dct = np.cos(np.pi * (2 * index + 1) * index[:, None] / (2 * SIDE)) * math.sqrt(2 / SIDE)
    dct[0] /= math.sqrt(2)
    assert np.allclose(dct @ dct.T, np.eye(SIDE))
    spectrum = dct @ images.numpy() @ dct.T
    bits = np.unpackbits(coded.constants["mask"].numpy(), axis=1)[:, : SIDE**2]
    for c in range(CLASSES):
        of_class = spectrum[UNITS * c : UNITS * (c + 1)]
        spread = of_class.mean(axis=1).var(axis=0, ddof=1).ravel()
        best = np.sort(np.argsort(-spread)[:20])
        assert np.array_equal(np.nonzero(bits[c])[0], best)
        kept = coded.learned["coefficients"][UNITS * c : UNITS * (c + 1)].numpy()
        assert np.allclose(kept, of_class.reshape(UNITS, 3, -1)[:, :, best])
    masked = np.zeros((len(images), 3, SIDE**2))
    for i in range(len(images)):
        masked[i] = spectrum[i].reshape(3, -1) * bits[i // UNITS]
    back = dct.T @ masked.reshape(spectrum.shape) @ dct
    assert np.allclose(choice.decode(coded, space()).numpy(), back)


def test_a_step_of_freds_size_is_the_same_step_here() -> None:
    """FreD's coefficients are those of 2 sum x cos; its step of 1e8 moves pixels as one of 1e8 / (2N)^2 does here."""
    side = 32
    index = torch.arange(side, dtype=torch.float64)
    inverse = torch.linalg.inv(2 * torch.cos(math.pi / (2 * side) * index[:, None] * (2 * index + 1)))
    gradient = torch.randn((1, 1, side, side), generator=torch.Generator().manual_seed(0)).double()
    choice, where = made("frequency", frequencies=side**2), Space(1, side)
    coded = choice.encode(torch.zeros_like(gradient), torch.tensor([0]), where)
    pulled = parameterisations.pull_back(choice, coded, where, gradient)["coefficients"]
    inner = (index[:, None] > 0) & (index > 0)  # elsewhere FreD's steps are smaller
    theirs = inverse @ (1e8 * inner * (inverse.T @ gradient @ inverse)) @ inverse.T
    step = 1e8 / (2 * side) ** 2 * pulled * inner.flatten()
    mine = choice.decode(Coded({"coefficients": step}, coded.constants), where)
    assert torch.allclose(theirs, mine)


@pytest.mark.parametrize(
    ("name", "options", "side", "message"),
    [
        ("multiformation", {"factor": 4}, 8, "distill.factor 4"),
        ("frequency", {"frequencies": 65}, 8, "more than the 64"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(name: str, options: dict[str, Any], side: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(name, **options).unit(3, side)


def test_a_damaged_mask_is_refused() -> None:
    choice, coded, _ = encoded("frequency")
    more = coded.constants["mask"].clone()
    more[0] = 255
    for mask in (more, coded.constants["mask"][:, :3], coded.constants["mask"].long()):
        with pytest.raises(ValueError, match="mask"):
            choice.decode(Coded(coded.learned, {"mask": mask}), space())


def test_of_a_single_image_the_largest_frequencies_are_kept() -> None:
    choice, where = made("frequency", frequencies=20), Space(2, 8)
    images = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    dct = frequency._transform(8, images)
    again = choice.decode(choice.encode(images, torch.arange(3), where), where)
    for own, kept in zip((dct @ images @ dct.T).flatten(2), (dct @ again @ dct.T).flatten(2), strict=True):
        size = own.mean(dim=0).abs()
        assert torch.allclose(kept, own * (size >= size.sort().values[-20]), atol=1e-5)
