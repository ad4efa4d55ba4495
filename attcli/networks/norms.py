"""The normalisations of the literature, and the rule that keeps them meaningful on small images."""

from torch import nn


def instance_norm(channels: int) -> nn.Module:
    """The literature's "instance norm": a group norm with a group for each channel, affine, without statistics."""
    return nn.GroupNorm(channels, channels)


def may_halve(resolution: int, norm_follows: bool) -> bool:
    """Whether a map of this size may be halved.

    No normalised convolution may see a map below 2x2, since the instance norm of a 1x1 map is constant; at the
    resolutions of the papers this never forbids anything.
    """
    return resolution // 2 >= (2 if norm_follows else 1)
