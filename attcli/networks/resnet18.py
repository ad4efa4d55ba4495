"""ResNet18 for small images: a 3x3 stem and eight basic blocks, instance norm."""

from torch import Tensor, nn
from torch.nn import functional as F

from attcli.networks.norms import InstanceNorm, halvings


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, or a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = InstanceNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = InstanceNorm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), InstanceNorm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def build(channels: int, classes: int, resolution: int) -> nn.Module:
    """ResNet18; a stride that would leave a normalised convolution a map below 2x2 is left out."""
    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1, bias=False), InstanceNorm(64), nn.ReLU()]
    size, inputs = resolution, 64
    for width, halve in zip((64, 128, 256, 512), [False, *halvings(resolution, 3)], strict=True):
        size = size // 2 if halve else size
        layers += [BasicBlock(inputs, width, 2 if halve else 1), BasicBlock(width, width, 1)]
        inputs = width
    pool = 4 if size >= 4 else size
    size //= pool
    return nn.Sequential(*layers, nn.AvgPool2d(pool), nn.Flatten(), nn.Linear(512 * size * size, classes))
