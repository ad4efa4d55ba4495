"""The normalisations of the literature, and the rule that keeps them meaningful on small images.

Those that torch differentiates wrongly in forward mode, when that is differentiated again, are written out.
"""

import torch
from torch import Tensor, nn

GROUPS = 4
"""Groups of the literature's group norm."""


def standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """X less its mean over these dimensions, divided by its deviation; bfloat16 is summed, and left, in float32."""
    x = x.float() if x.dtype == torch.bfloat16 else x
    centred = x - x.mean(dim=dims, keepdim=True)
    return centred * (centred.square().mean(dim=dims, keepdim=True) + eps).rsqrt()


class InstanceNorm(nn.GroupNorm):
    """The literature's "instance norm": a group norm with a group for each channel, affine, without statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same; written out where it is compiled, so that it fuses with its neighbours."""
        if not torch.compiler.is_compiling():
            return super().forward(x)
        centred = x.float() if x.dtype == torch.bfloat16 else x
        centred = centred - centred.mean(dim=(2, 3), keepdim=True)
        variance = centred.square().mean(dim=(2, 3), keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight.view(-1, 1, 1)
        return (centred * scale + self.bias.view(-1, 1, 1)).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Layer norm, always written out: torch's own rule for forward mode is wrong where it is differentiated again."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., normalized_shape) to the same."""
        scaled = standardised(x, tuple(range(-len(self.normalized_shape), 0)), self.eps)
        if self.weight is not None:
            scaled = scaled * self.weight
        return (scaled if self.bias is None else scaled + self.bias).to(x.dtype)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm, written out where it keeps no running statistics, as in a student, for the same reason.

    A network of its own keeps them, as torch's does, and uses them in eval mode.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        if self.running_mean is not None:
            return super().forward(x)
        scaled = standardised(x, (0, 2, 3), self.eps)
        return (scaled * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)


def norm(kind: str, channels: int, size: int) -> nn.Module:
    """The norm of that name for maps (B, channels, size, size): batch, instance, layer or group."""
    match kind:
        case "batch":
            return BatchNorm(channels)
        case "layer":
            return LayerNorm([channels, size, size])
        case "group":
            return nn.GroupNorm(GROUPS, channels)
        case "instance":
            return InstanceNorm(channels)
    raise ValueError(kind)


def halvings(resolution: int, count: int) -> list[bool]:
    """Which of `count` halvings, each followed by a normalised convolution, a map of this size goes through.

    No normalised convolution may see a map below 2x2, since the instance norm of a 1x1 map is constant. Where there are
    too many, the first are left out, so that only the last layers see the smallest maps, as at the papers' resolutions,
    where none is left out.
    """
    possible = max(0, (resolution // 2).bit_length() - 1)
    return [place >= count - possible for place in range(count)]
