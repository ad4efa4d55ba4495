"""The normalisations of the literature, and the rule that keeps them meaningful on small images."""

import torch
from torch import Tensor, nn


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
        dims = tuple(range(-len(self.normalized_shape), 0))
        centred = x - x.mean(dim=dims, keepdim=True)
        variance = centred.square().mean(dim=dims, keepdim=True)
        scaled = centred * (variance + self.eps).rsqrt()
        if self.weight is not None:
            scaled = scaled * self.weight
        return scaled if self.bias is None else scaled + self.bias


class BatchNorm(nn.BatchNorm2d):
    """Batch norm by the statistics of the batch at hand, written out for the same reason; it keeps no running ones."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        centred = x - x.mean(dim=(0, 2, 3), keepdim=True)
        variance = centred.square().mean(dim=(0, 2, 3), keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight.view(-1, 1, 1)
        return centred * scale + self.bias.view(-1, 1, 1)


def halvings(resolution: int, count: int) -> list[bool]:
    """Which of `count` halvings, each followed by a normalised convolution, a map of this size goes through.

    No normalised convolution may see a map below 2x2, since the instance norm of a 1x1 map is constant. Where there are
    too many, the first are left out, so that only the last layers see the smallest maps, as at the papers' resolutions,
    where none is left out.
    """
    possible = max(0, (resolution // 2).bit_length() - 1)
    return [place >= count - possible for place in range(count)]
