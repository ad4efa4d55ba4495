"""Every parameterisation keeps the contract that distilling relies on."""

from pathlib import Path

import pytest
import torch

from attcli import parameterisations
from attcli.parameterisations import Coded

NAMES = sorted(path.stem for path in Path(parameterisations.__file__).parent.glob("*.py") if path.stem != "__init__")
CLASSES, IPC = 3, 2


def encoded(name: str) -> tuple[parameterisations.Parameterisation, Coded, torch.Tensor]:
    made = parameterisations.load(name)
    labels = torch.arange(CLASSES).repeat_interleave(made.images_per_class(IPC))
    images = torch.randn((len(labels), 3, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    return made, made.encode(images, labels), images


@pytest.mark.parametrize("name", NAMES)
def test_decoding_gives_as_many_images_of_the_same_shape_and_type(name: str) -> None:
    made, coded, images = encoded(name)
    decoded = made.decode(coded)
    assert decoded.shape == images.shape
    assert decoded.dtype == images.dtype
    assert all(x.dtype == images.dtype for x in coded.learned.values())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_pulled_back_as_autograd_does(name: str) -> None:
    made, coded, images = encoded(name)
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).double()
    pulled = parameterisations.pull_back(made, coded, weights)
    assert pulled.keys() == coded.learned.keys()
    for key, x in coded.learned.items():
        for index in (0, x.numel() // 2, x.numel() - 1):
            moved = {}
            for sign in (-1, 1):
                shifted = x.clone()
                shifted.view(-1)[index] += sign * 1e-5
                there = made.decode(Coded({**coded.learned, key: shifted}, coded.constants))
                moved[sign] = float((weights * there).sum())
            assert float(pulled[key].view(-1)[index]) == pytest.approx(
                (moved[1] - moved[-1]) / 2e-5, rel=1e-6, abs=1e-8
            )


@pytest.mark.parametrize("name", NAMES)
def test_projecting_twice_is_projecting_once(name: str) -> None:
    made, coded, _ = encoded(name)
    far = Coded({key: 100 * x for key, x in coded.learned.items()}, coded.constants)
    once = made.project(far)
    twice = made.project(once)
    assert all(torch.equal(once.learned[key], twice.learned[key]) for key in far.learned)


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_budget_never_holds_fewer_images(name: str) -> None:
    made = parameterisations.load(name)
    counts = [made.images_per_class(ipc) for ipc in (1, 2, 10, 50)]
    assert counts == sorted(counts)
    assert counts[0] >= 1


def test_pixels_are_the_images() -> None:
    made, coded, images = encoded("pixels")
    assert torch.equal(made.decode(coded), images)
    assert made.images_per_class(7) == 7
