"""The networks: published sizes, and sense at small resolutions."""

from pathlib import Path

import pytest
import torch
from torch import nn

from attcli import registry
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.networks.norms import halvings
from attcli.scoring.protocol import Protocol, accuracy, fresh, train

PUBLISHED = [
    ("convnet", 10, 32, {"depth": 1}, 331_530),
    ("convnet", 10, 32, {"depth": 2}, 233_610),
    ("convnet", 10, 32, {}, 320_010),
    ("convnet", 10, 32, {"depth": 4}, 452_490),
    ("convnet", 10, 32, {"depth": 5}, 596_490),
    ("convnet", 100, 32, {}, 504_420),
    ("convnet", 200, 64, {}, 857_160),
    ("convnet", 10, 128, {}, 615_690),
    ("convnet", 10, 256, {}, 763_530),
    ("convnet", 10, 32, {"width": 32}, 24_714),
    ("convnet", 10, 32, {"width": 64}, 86_282),
    ("convnet", 10, 32, {"width": 256}, 1_229_834),
    ("convnet", 10, 32, {"norm": "none"}, 319_242),
    ("mlp", 10, 32, {}, 411_146),
    ("mlp", 100, 32, {}, 422_756),
    ("lenet", 10, 32, {}, 62_006),
    ("lenet", 100, 32, {}, 69_656),
    ("alexnet", 10, 32, {}, 1_872_202),
    ("alexnet", 100, 32, {}, 2_148_772),
    ("vgg11", 10, 32, {}, 9_231_114),
    ("vgg11", 100, 32, {}, 9_277_284),
    ("resnet18", 10, 32, {}, 11_173_962),
    ("resnet18", 100, 32, {}, 11_220_132),
]


@pytest.mark.parametrize(("name", "classes", "resolution", "options", "count"), PUBLISHED)
def test_published_parameter_counts(name: str, classes: int, resolution: int, options: dict, count: int) -> None:
    with torch.device("meta"):
        network = Architecture(name, 3, classes, resolution, options).build()
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("resolution", [8, 32])
@pytest.mark.parametrize("name", registry.names("network"))
def test_untrained_outputs_differ_between_inputs(name: str, resolution: int) -> None:
    torch.manual_seed(0)
    network = Architecture(name, 3, 10, resolution, {}).build()
    with torch.no_grad():
        outputs = network(torch.randn(4, 3, resolution, resolution))
    assert outputs.shape == (4, 10)
    assert torch.pdist(outputs).min() > 1e-4


@pytest.mark.parametrize("resolution", [8, 32])
@pytest.mark.parametrize("name", registry.names("network"))
def test_no_norm_sees_a_map_below_2x2(name: str, resolution: int) -> None:
    network = Architecture(name, 3, 10, resolution, {}).build()
    sizes = []
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    network(torch.randn(1, 3, resolution, resolution))
    assert all(min(size) >= 2 for size in sizes)


def test_the_first_halvings_are_left_out_where_there_are_too_many() -> None:
    assert halvings(32, 4) == [True] * 4
    assert halvings(8, 4) == [False, False, True, True]
    assert halvings(28, 3) == [True] * 3
    assert halvings(2, 2) == halvings(3, 2) == [False, False]
    assert halvings(4, 1) == [True]


@pytest.mark.parametrize("depth", range(1, 8))
def test_convnet_of_any_depth(depth: int) -> None:
    for resolution in (8, 28, 32):
        network = Architecture("convnet", 1, 10, resolution, {"depth": depth, "width": 4}).build()
        assert network(torch.randn(2, 1, resolution, resolution)).shape == (2, 10)


def test_grey_28_is_padded_to_32() -> None:
    networks = {
        size: Architecture("convnet", 1, 10, size, {}).build()(torch.zeros(1, 1, size, size)) for size in (28, 32)
    }
    assert networks[28].shape == networks[32].shape
    last = [module for module in Architecture("convnet", 1, 10, 28, {}).build() if isinstance(module, nn.Linear)]
    assert last[0].in_features == 128 * 4 * 4


LEARNING = {
    "alexnet": (0.1, 40, 60),
    "convnet": (0.1, 60, 20),
    "lenet": (0.1, 60, 20),
    "mlp": (0.03, 60, 20),
    "resnet18": (0.01, 60, 20),
    "vgg11": (0.003, 60, 20),
}


@pytest.mark.parametrize("name", registry.names("network"))
def test_every_network_learns_at_8x8(name: str) -> None:
    lr, epochs, count = LEARNING[name]
    digits = registry.source("digits").load(Path(), "digits").train
    images = torch.from_numpy(digits.images[:count]).float() / 8 - 1
    labels = torch.from_numpy(digits.labels[:count])
    protocol = Protocol("exact", epochs, 20, 0.9, 0.0, "none")
    architecture, key = Architecture(name, 1, 10, 8, {}), (0, "learn", 0)
    student = Student.of(architecture.build())
    theta = train(student, fresh(architecture, key), images, labels, 10, lr, protocol, key)
    assert accuracy(student, theta, images, labels) > 60
