"""Smooth Grad-CAM++ against its definition, image by image and map by map."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attcli import registry
from attcli.matching import cam
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Small(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 5, 3, stride=2)
        self.last, self.positive = nn.Linear(5 * 9, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.before(x))

    def before(self, x: Tensor) -> Tensor:
        """The last feature maps."""
        out: Tensor = self.positive(self.second(self.first(x).tanh()))
        return out

    def after(self, looked_at: Tensor) -> Tensor:
        """The outputs for these maps."""
        out: Tensor = self.last(looked_at.tanh().flatten(1))
        return out


def by_definition(module: Small, image: Tensor, label: int, noise: Tensor) -> Tensor:
    """The map (H, W) of one image (C, H, W)."""

    def looked_at(x: Tensor) -> Tensor:
        return module.before(x[None]).detach()

    gradients = []
    for copy in noise:
        a = looked_at(image + 0.3 * copy).requires_grad_()
        gradients.append(torch.autograd.grad(module.after(a)[0, label], a)[0][0])
    activations, total = looked_at(image)[0], torch.zeros(3, 3)
    for k, a_k in enumerate(activations):
        squares, cubes, plain = (sum(g[k] ** power for g in gradients) / len(noise) for power in (2, 3, 1))
        constant = (cubes * a_k).sum()
        weight = sum(
            float(squares[i, j] / (2 * squares[i, j] + constant)) * float(plain[i, j])
            for i in range(3)
            for j in range(3)
            if plain[i, j] > 0
        )
        total += weight * a_k
    total = total.clamp(min=0)
    scaled = (total - total.min()) / (total.max() - total.min())
    return F.interpolate(scaled[None, None], size=image.shape[1:], mode="bilinear")[0, 0]


def test_maps_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    module = Small()
    student, theta = Student.of(module), vector(module)
    images, labels, noise = torch.randn(6, 2, 8, 8), torch.tensor([0, 1, 2, 2, 1, 0]), torch.randn(4, 6, 2, 8, 8)
    maps = cam.maps(student, theta, images, labels, noise)
    for i, label in enumerate(labels.tolist()):
        assert torch.allclose(maps[i], by_definition(module, images[i], label, noise[:, i]), rtol=1e-9, atol=1e-12)
    assert float(maps.min()) == 0
    assert float(maps.max()) <= 1
    assert not torch.allclose(maps, cam.maps(student, theta, images, (labels + 1) % 3, noise))


def test_pixels_that_are_looked_at_weigh_more() -> None:
    attention = torch.tensor([[[0.0, 1.0], [0.5, 0.4]], [[0.0, 0.0], [0.0, 0.0]]])
    assert cam.weights(attention, 2.0).tolist() == [[[1, 3], [2.5, 1]], [[2, 2], [2, 2]]]


def test_a_map_without_any_value_is_no_division_by_zero() -> None:
    module = Small()
    for parameter in module.parameters():
        parameter.data.zero_()
    student, images = Student.of(module), torch.randn(2, 2, 8, 8)
    maps = cam.maps(student, vector(module), images, torch.tensor([0, 1]), torch.randn(4, 2, 2, 8, 8))
    assert not maps.any()


@pytest.mark.parametrize("arch", registry.names("network"))
def test_networks_have_feature_maps_or_are_told_apart(arch: str) -> None:
    side = next(size for size in (8, 16, 32, 64) if takes(arch, size))
    with torch.device("meta"):
        student = Student.of(Architecture(arch, 3, 10, side, {}).build())
        x, theta = torch.zeros(2, 3, side, side), torch.zeros(student.layout.size)
        if arch in ("mlp", "vit"):  # a vit's only maps are its patches, before anything attends to them
            with pytest.raises(ValueError, match="no feature maps"):
                cam.feature_maps(student, theta, x)
        else:
            maps, outputs = cam.feature_maps(student, theta, x)
            assert maps.shape[2:].numel() > 1
            assert outputs.shape == (2, 10)


def test_maps_whose_channels_come_last_are_none() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 5, 3), ChannelsLast(), torch.nn.Flatten(), torch.nn.Linear(180, 3))
    with pytest.raises(ValueError, match="no feature maps"):
        cam.feature_maps(Student.of(module), vector(module), torch.zeros(2, 2, 8, 8))


class ChannelsLast(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


def takes(arch: str, side: int) -> bool:
    return bool(getattr(registry.module("network", arch), "takes", lambda side: True)(side))
