"""Parts of a vision transformer. Attention is written out: the fused kernels have no second derivative."""

import torch
from torch import Tensor, nn

from attcli.networks.norms import LayerNorm

INITIAL = 0.02
"""Deviation of initial position embeddings, as published."""


class Patches(nn.Module):
    """Patches of an image as vectors, each with an embedding of its place added."""

    def __init__(self, channels: int, width: int, patch: int, count: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, patch, stride=patch)
        self.places = nn.Parameter(INITIAL * torch.randn(1, count, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, patches, width)."""
        vectors: Tensor = self.project(x).flatten(2).transpose(1, 2)
        return vectors + self.places


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, patches, width) to the same."""
        batch, count, width = x.shape
        q, k, v = self.inputs(x).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(dim=-1)
        mixed: Tensor = self.output((weights @ v).transpose(1, 2).reshape(batch, count, width))
        return mixed


class Block(nn.Module):
    """Attention, then a perceptron with a hidden layer four times as wide, each beside an identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(LayerNorm(width), Attention(width, heads))
        self.perceptron = nn.Sequential(
            LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, patches, width) to the same."""
        x = x + self.attention(x)
        summed: Tensor = x + self.perceptron(x)
        return summed


class Mean(nn.Module):
    """The mean of all patches."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, patches, width) to (B, width)."""
        return x.mean(dim=1)
