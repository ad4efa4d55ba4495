"""Parts that networks are built of, and the families that are built of them."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from attcli.networks.norms import BatchNorm, InstanceNorm, halvings

NORMS: dict[str, type[InstanceNorm] | type[BatchNorm]] = {"instance": InstanceNorm, "batch": BatchNorm}

VGG11: tuple[int | str, ...] = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
"""Channels of the convolutions, and the max pools between them."""

WIDTHS = (64, 128, 256, 512)
"""Channels of a residual network's four stages."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, or a 1x1 convolution where the shape changes.

    With `pooled` a stride of 2 is a convolution with stride 1 and a mean pool (the literature's "AP").
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str = "instance", *, pooled: bool = False) -> None:
        super().__init__()
        normalise, step = NORMS[norm], 1 if pooled else stride
        self.pool = nn.AvgPool2d(2) if pooled and stride == 2 else nn.Identity()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=step, padding=1, bias=False)
        self.norm1 = normalise(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = normalise(outputs)
        self.relu = nn.ReLU()  # called twice; a module, so that what a network computes on its way can be read
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            projection: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1, stride=step, bias=False)]
            pools = [nn.AvgPool2d(2)] if pooled and stride == 2 else []
            self.shortcut = nn.Sequential(*projection, *pools, normalise(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = self.pool(self.relu(self.norm1(self.conv1(x))))
        activated: Tensor = self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
        return activated


def vgg(channels: int, classes: int, resolution: int, norm: str) -> nn.Module:
    """VGG11 with this norm; pools that would leave a normalised convolution a map below 2x2 are left out."""
    layers: list[nn.Module] = []
    size, inputs = resolution, channels
    pools = iter([*halvings(resolution, VGG11.count("pool") - 1), True])
    for entry in VGG11:
        if isinstance(entry, int):
            layers += [nn.Conv2d(inputs, entry, 3, padding=1), NORMS[norm](entry), nn.ReLU()]
            inputs = entry
        elif next(pools):
            layers.append(nn.MaxPool2d(2))
            size //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * size * size, classes))


def stages(blocks: Sequence[int], strides: Sequence[int], block: partial[BasicBlock]) -> list[nn.Module]:
    """The residual blocks of the four stages, of which the first block of each has its stage's stride."""
    layers: list[nn.Module] = []
    for (inputs, width), count, stride in zip(pairwise((WIDTHS[0], *WIDTHS)), blocks, strides, strict=True):
        layers += [block(inputs, width, stride), *(block(width, width, 1) for _ in range(count - 1))]
    return layers


def resnet(channels: int, classes: int, resolution: int, norm: str, *, pooled: bool = False) -> nn.Module:
    """ResNet18 for small images: a 3x3 stem and eight basic blocks.

    A stride that would leave a normalised convolution a map below 2x2 is left out. Maps of 4x4 and more are pooled 4x4
    at the end; with `pooled`, where the strides are pools as well, they are not.
    """
    strides = [1, *(1 + halve for halve in halvings(resolution, 3))]
    size = resolution
    for stride in strides:
        size = size // stride if pooled else -(-size // stride)
    pool = 1 if pooled else min(4, size)
    size //= pool
    stem = [nn.Conv2d(channels, 64, 3, padding=1, bias=False), NORMS[norm](64), nn.ReLU()]
    body = stages((2, 2, 2, 2), strides, partial(BasicBlock, norm=norm, pooled=pooled))
    return nn.Sequential(*stem, *body, nn.AvgPool2d(pool), nn.Flatten(), nn.Linear(512 * size * size, classes))


def imagenet_resnet(channels: int, classes: int, resolution: int, blocks: Sequence[int]) -> nn.Module:
    """A ResNet with ImageNet's stem (a 7x7 convolution with stride 2, a max pool) and so many blocks in each stage.

    It has instance norm. Of its five halvings the first are left out where a map would get below 2x2.
    """
    stem, pool, *strides = (1 + halve for halve in halvings(resolution, 5))
    return nn.Sequential(
        nn.Conv2d(channels, 64, 7, stride=stem, padding=3, bias=False),
        InstanceNorm(64),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=pool, padding=1),
        *stages(blocks, [1, *strides], partial(BasicBlock, norm="instance")),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, classes),
    )
