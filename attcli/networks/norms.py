"""The normalisations of the literature, and the rule that keeps them meaningful on small images."""

from torch import nn


def instance_norm(channels: int) -> nn.Module:
    """The literature's "instance norm": a group norm with a group for each channel, affine, without statistics."""
    return nn.GroupNorm(channels, channels)


def halvings(resolution: int, count: int) -> list[bool]:
    """Which of `count` halvings, each followed by a normalised convolution, a map of this size goes through.

    No normalised convolution may see a map below 2x2, since the instance norm of a 1x1 map is constant. Where there are
    too many, the first are left out, so that only the last layers see the smallest maps, as at the papers' resolutions,
    where none is left out.
    """
    possible = max(0, (resolution // 2).bit_length() - 1)
    return [place >= count - possible for place in range(count)]
