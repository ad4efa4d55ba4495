"""The networks: published sizes, what stays as it is, sense at small resolutions, and what is refused."""

import hashlib
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet

from attcli import registry, runtime
from attcli.errors import UserError
from attcli.matching.parameters import Layout, vector
from attcli.matching.statistics import calibrated
from attcli.matching.student import Student
from attcli.networks import Architecture, attention
from attcli.networks.blocks import BasicBlock
from attcli.networks.norms import halvings
from attcli.scoring.protocol import Protocol
from attcli.scoring.testing import accuracy
from attcli.scoring.training import fresh, train
from attcli.settings import resolve
from attcli.stages import identity

NAMES = registry.names("network")
DOCUMENT = Path(__file__).parents[2] / "docs" / "networks.md"
PUBLISHED = [
    ("convnet", 10, 32, {"depth": 1}, 331_530),
    ("convnet", 10, 32, {"depth": 2}, 233_610),
    ("convnet", 10, 32, {}, 320_010),
    ("convnet", 10, 32, {"depth": 4}, 452_490),
    ("convnet", 10, 32, {"depth": 5}, 596_490),
    ("convnet", 100, 32, {}, 504_420),
    ("convnet", 200, 64, {}, 857_160),
    ("convnet", 1000, 64, {}, 2_496_360),
    ("convnet", 10, 128, {}, 615_690),
    ("convnet", 10, 256, {}, 763_530),
    ("convnet", 10, 32, {"width": 32}, 24_714),
    ("convnet", 10, 32, {"width": 64}, 86_282),
    ("convnet", 10, 32, {"width": 256}, 1_229_834),
    ("convnet", 10, 32, {"width": 512}, 4_818_954),
    ("convnet", 10, 32, {"width": 1024}, 19_075_082),
    ("convnet", 10, 32, {"norm": "none"}, 319_242),
    ("convnet", 10, 32, {"norm": "batch"}, 320_010),
    ("convnet", 10, 32, {"norm": "group"}, 320_010),
    ("convnet", 10, 32, {"norm": "layer"}, 663_306),
    ("convnetbn", 10, 32, {}, 320_010),
    ("mlp", 10, 32, {}, 411_146),
    ("mlp", 100, 32, {}, 422_756),
    ("mlp", 200, 32, {}, 435_656),
    ("mlp", 200, 64, {}, 1_615_304),
    ("lenet", 10, 32, {}, 62_006),
    ("lenet", 100, 32, {}, 69_656),
    ("lenet", 200, 32, {}, 78_156),
    ("alexnet", 10, 32, {}, 1_872_202),
    ("alexnet", 100, 32, {}, 2_148_772),
    ("alexnet", 200, 32, {}, 2_456_072),
    *[(name, 10, 32, {}, 9_231_114) for name in ("vgg11", "vgg11bn")],
    *[(name, 100, 32, {}, 9_277_284) for name in ("vgg11", "vgg11bn")],
    *[(name, 200, 32, {}, 9_328_584) for name in ("vgg11", "vgg11bn")],
    *[(name, 10, 32, {}, 11_173_962) for name in ("resnet18", "resnet18bn")],
    *[(name, 100, 32, {}, 11_220_132) for name in ("resnet18", "resnet18bn")],
    *[(name, 200, 32, {}, 11_271_432) for name in ("resnet18", "resnet18bn")],
    ("resnet18ap", 10, 32, {}, 11_250_762),
    ("resnet18ap", 100, 32, {}, 11_988_132),
    ("resnet18ap", 200, 32, {}, 12_807_432),
    ("resnet18imagenet", 10, 128, {}, 11_181_642),
    ("resnet6imagenet", 10, 128, {}, 4_910_922),
]


@pytest.mark.parametrize(("name", "classes", "resolution", "options", "count"), PUBLISHED)
def test_published_parameter_counts(name: str, classes: int, resolution: int, options: dict, count: int) -> None:
    with torch.device("meta"):
        network = Architecture(name, 3, classes, resolution, options).build()
    assert sum(p.numel() for p in network.parameters()) == count


def test_the_documented_table_is_complete_and_right() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+) \|[^|]*\|$", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(NAMES)
    for name, count in rows:
        with torch.device("meta"):
            network = Architecture(name, 3, 10, 32, {}).build()
        assert f"{sum(p.numel() for p in network.parameters()):,}" == count


INITIAL = {  # of the version that first wrote experts: these must be read by every later one
    "alexnet": ("4c12a126f7d610cf", "12caa8ae4d2932cc", "605fa456ab4f5b49"),
    "convnet": ("4671ab9ee9d426fa", "69db32b3d96d4369", "fecf2b021d8a61dd"),
    "lenet": ("169a489fe7de4b16", "90b5f1327875a955", "95327f7e1cf669c0"),
    "mlp": ("25262e575a3f792f", "6026205740e48e34", "68a69670401595b5"),
    "resnet18": ("f6a70e2459a2b0a6", "f88f9a5cd9990406", "9c174f820ed55695"),
    "vgg11": ("f11840be82e1a1ef", "a2b9b657976f6105", "f75f66a964aa35ce"),
}


@pytest.mark.parametrize("name", INITIAL)
def test_names_shapes_and_initial_weights_never_change(name: str) -> None:
    for (channels, resolution), wanted in zip(((1, 8), (3, 32), (3, 64)), INITIAL[name], strict=True):
        network = runtime.seeded(Architecture(name, channels, 10, resolution, {}).build, 0, "pinned")
        layout = Layout.of(network)
        content = repr((layout.names, layout.shapes)).encode() + vector(network).numpy().tobytes()
        assert hashlib.sha256(content).hexdigest()[:16] == wanted


ANSWERS = {  # the sum of what they answer to two images, by size: other layers of the same sizes answer otherwise
    "alexnet": 0.095644336,
    "convnet": 4.0803319,
    "convnetbn": 4.6178745,
    "lenet": 0.72930169,
    "mlp": 1.32133,
    "resnet18": 7.9295022,
    "resnet18ap": 10.777582,
    "resnet18bn": 7.9090234,
    "resnet18imagenet": 8.1603451,
    "resnet6imagenet": 6.2382295,
    "vgg11": 10.710666,
    "vgg11bn": 10.89336,
    "vit": 10.842953,
}


@pytest.mark.parametrize("name", registry.names("network"))
def test_networks_compute_what_they_always_did(name: str) -> None:
    network = runtime.seeded(Architecture(name, 3, 10, 64, {}).build, 0, "pinned").double()
    ramp = torch.linspace(-1, 1, 2 * 3 * 64 * 64, dtype=torch.float64).sin().view(2, 3, 64, 64)
    with torch.no_grad():
        answers = network(ramp * torch.arange(1, 3).view(2, 1, 1, 1))
    assert float(answers.abs().sum()) == pytest.approx(ANSWERS[name], rel=1e-6)


@pytest.mark.parametrize(
    ("method", "dataset", "ipc", "experts"),
    [
        ("att", "cifar10", 1, "097fe808b9c448ad"),
        ("mtt", "cifar10", 10, "93414dccf96e6f95"),
        ("att", "digits", 1, "29e2111c1c0071b1"),
        ("datm", "cifar100", 10, "251e61651330f61a"),
    ],
)
def test_new_options_with_their_defaults_change_no_identity(method: str, dataset: str, ipc: int, experts: str) -> None:
    chosen = {"distill.method": method, "prepare.dataset": dataset, "distill.ipc": ipc}
    plain = resolve(chosen, environ={}, ignore_params=True).settings
    assert identity.buffer(plain, "0" * 64)[0] == experts
    assert set(identity.network(plain)) == {"arch", "depth", "width", "norm"}
    for name, value in {"network.pooling": "max", "network.activation": "sigmoid"}.items():
        other = resolve({**chosen, name: value}, environ={}, ignore_params=True).settings
        assert identity.buffer(other, "0" * 64)[0] != experts
        assert identity.network(other)[name.split(".")[1]] == value


@pytest.mark.parametrize("name", NAMES)
def test_every_network_takes_the_customary_images(name: str) -> None:
    for channels, resolution in ((1, 8), (3, 16), (1, 28), (3, 32), (1, 60), (3, 64), (3, 100), (1, 128), (3, 256)):
        registry.check_network(name, resolution, {})
        with torch.device("meta"):
            network = Architecture(name, channels, 7, resolution, {}).build()
            assert network(torch.empty(2, channels, resolution, resolution)).shape == (2, 7)


@pytest.mark.parametrize("resolution", [8, 32])
@pytest.mark.parametrize("name", NAMES)
def test_untrained_outputs_differ_between_inputs(name: str, resolution: int) -> None:
    torch.manual_seed(0)
    network = Architecture(name, 3, 10, resolution, {}).build()
    with torch.no_grad():
        outputs = network(torch.randn(4, 3, resolution, resolution))
    assert outputs.shape == (4, 10)
    assert torch.pdist(outputs).min() > 1e-4


@pytest.mark.parametrize("resolution", [8, 28, 32])
@pytest.mark.parametrize("name", NAMES)
def test_no_norm_sees_a_map_below_2x2(name: str, resolution: int) -> None:
    sizes = []
    with torch.device("meta"):
        network = Architecture(name, 3, 10, resolution, {}).build()
        for module in network.modules():
            if isinstance(module, (nn.GroupNorm, nn.BatchNorm2d)):
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


@pytest.mark.parametrize("activation", ["relu", "leakyrelu", "sigmoid"])
@pytest.mark.parametrize("pooling", ["avg", "max", "none"])
@pytest.mark.parametrize("norm", ["none", "batch", "instance", "layer", "group"])
def test_convnets_options_are_the_literatures(norm: str, pooling: str, activation: str) -> None:
    options = {"width": 8, "depth": 2, "norm": norm, "pooling": pooling, "activation": activation}
    network = Architecture("convnet", 3, 10, 8, options).build()
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    layers = [type(layer).__name__ for layer in network]
    norms = {"batch": "BatchNorm", "instance": "InstanceNorm", "layer": "LayerNorm", "group": "GroupNorm"}
    block = [
        "Conv2d",
        *([norms[norm]] if norm != "none" else []),
        {"relu": "ReLU", "leakyrelu": "LeakyReLU", "sigmoid": "Sigmoid"}[activation],
        *([{"avg": "AvgPool2d", "max": "MaxPool2d"}[pooling]] if pooling != "none" else []),
    ]
    assert layers == [*block, *block, "Flatten", "Linear"]
    assert network[-1].in_features == 8 * (8 * 8 if pooling == "none" else 2 * 2)


def test_grey_28_is_padded_to_32() -> None:
    networks = {
        size: Architecture("convnet", 1, 10, size, {}).build()(torch.zeros(1, 1, size, size)) for size in (28, 32)
    }
    assert networks[28].shape == networks[32].shape
    last = [module for module in Architecture("convnet", 1, 10, 28, {}).build() if isinstance(module, nn.Linear)]
    assert last[0].in_features == 128 * 4 * 4


def test_mean_pooled_resnet_keeps_its_last_map() -> None:
    for channels, resolution, side in ((3, 32, 4), (1, 28, 3), (3, 64, 8)):
        network = Architecture("resnet18ap", channels, 10, resolution, {}).build()
        assert network[-1].in_features == 512 * side * side
        assert not [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride != (1, 1)]


LEARNING = {
    "alexnet": (0.1, 40, 60),
    "convnet": (0.1, 60, 20),
    "convnetbn": (0.1, 20, 20),
    "lenet": (0.1, 60, 20),
    "mlp": (0.03, 60, 20),
    "resnet18": (0.01, 6, 20),
    "resnet18ap": (0.003, 6, 20),
    "resnet18bn": (0.01, 6, 20),
    "resnet18imagenet": (0.003, 6, 20),
    "resnet6imagenet": (0.01, 8, 20),
    "vgg11": (0.003, 8, 20),
    "vgg11bn": (0.003, 8, 20),
    "vit": (0.05, 80, 20),
}


QUICK = ("convnet", "convnetbn", "lenet", "mlp")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NAMES]
)
def test_every_network_learns_at_8x8(name: str) -> None:
    lr, epochs, count = LEARNING[name]
    digits = registry.source("digits").load(Path(), "digits").train
    images = torch.from_numpy(digits.images[:count]).float() / 8 - 1
    labels = torch.from_numpy(digits.labels[:count])
    protocol = Protocol("exact", epochs, 20, 0.9, 0.0, "none")
    architecture, key = Architecture(name, 1, 10, 8, {}), (0, "learn", 0)
    student = Student.of(architecture.build())
    theta = train(student, fresh(architecture, key), images, labels, 10, lr, protocol, key)
    assert accuracy(calibrated(student, theta, images), theta, images, labels) > 60


def archs_of(value: object) -> tuple[str, ...]:
    return resolve({"evaluate.archs": value}, environ={}, ignore_params=True).settings.evaluate.archs


def test_pools_of_networks() -> None:
    papers = ("convnet", "mlp", "lenet", "alexnet", "vgg11", "resnet18", "resnet18ap")
    assert archs_of("papers") == archs_of(["papers"]) == papers
    assert archs_of("vit, papers,mlp") == ("vit", *papers)
    assert archs_of("all") == NAMES


@pytest.mark.parametrize(
    ("name", "resolution", "message"),
    [
        ("alexnet", 7, "network alexnet does not take images of 7x7; the nearest size that it takes is 8x8"),
        ("vit", 31, "network vit does not take images of 31x31; the nearest size that it takes is 30x30"),
        ("vit", 127, "the nearest size that it takes is 126x126"),
        ("lenett", 32, "unknown architecture 'lenett'; did you mean 'lenet'?"),
    ],
)
def test_a_network_that_does_not_take_such_images_is_refused(name: str, resolution: int, message: str) -> None:
    with pytest.raises(UserError) as error:
        registry.check_network(name, resolution, {})
    assert message in str(error.value)
    about = {"channels": 3, "resolution": resolution, "classes": ["a", "b"]}
    with pytest.raises(UserError):
        Architecture.of({"arch": name}, about)


def test_an_unknown_network_is_told_with_all_there_are() -> None:
    with pytest.raises(UserError, match=r"there are: alexnet, .*, vit, timm:NAME$"):
        registry.check_network("zzzz", 32, {})


def test_options_that_clash_are_refused_before_any_work() -> None:
    with pytest.raises(UserError, match=r"network\.norm group needs a network\.width that 4 divides, and 6 is not"):
        resolve({"network.norm": "group", "network.width": 6}, environ={}, ignore_params=True)


def test_attention_is_torchs_and_patches_know_their_places() -> None:
    layer, x = attention.Attention(12, 3).double(), torch.randn(2, 5, 12).double()
    q, k, v = (part.view(2, 5, 3, 4).transpose(1, 2) for part in layer.inputs(x).chunk(3, dim=2))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 12)
    assert torch.allclose(layer(x), layer.output(mixed))
    patches, x = attention.Patches(1, 6, 4, 4), torch.randn(2, 1, 8, 8)
    assert torch.allclose(patches(x)[:, 3], patches.project(x)[:, :, 1, 1] + patches.places[:, 3], atol=1e-6)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 8, 2)])
def test_the_basic_block_is_torchvisions(inputs: int, outputs: int, stride: int) -> None:
    def norm(channels: int) -> nn.Module:
        return nn.GroupNorm(channels, channels)

    down = None
    if inputs != outputs:
        down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
    own = BasicBlock(inputs, outputs, stride)
    theirs = resnet.BasicBlock(inputs, outputs, stride, down, norm_layer=norm)
    for a, b in zip(own.parameters(), theirs.parameters(), strict=True):
        b.data.copy_(a.data)
    x = torch.randn(3, inputs, 8, 8)
    assert torch.allclose(own(x), theirs(x), atol=1e-5)


@pytest.mark.parametrize(("name", "pools"), [("lenet", 2), ("alexnet", 3), ("vgg11", 5)])
def test_pools_take_the_maximum(name: str, pools: int) -> None:
    kinds = [type(layer).__name__ for layer in Architecture(name, 3, 10, 32, {}).build().children()]
    assert [kind for kind in kinds if "Pool" in kind] == ["MaxPool2d"] * pools


@pytest.mark.parametrize("name", [name for name in registry.names("network") if name.endswith("bn")])
def test_networks_called_bn_have_batch_norm_and_no_other(name: str) -> None:
    with torch.device("meta"):
        network = Architecture(name, 3, 10, 32, {}).build()
    assert {type(part).__name__ for part in network.modules() if "Norm" in type(part).__name__} == {"BatchNorm"}
