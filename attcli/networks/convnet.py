"""ConvNet: the network that dataset distillation is measured on (D blocks of convolution, norm, ReLU, mean pool)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from attcli.options import Section

if TYPE_CHECKING:
    from torch import nn


PUBLISHED_DEPTH = {32: 3, 64: 4, 128: 5, 256: 6}


class Options(Section):
    """A ConvNet's options, which are settings of `network`."""

    depth: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="blocks of a ConvNet; default: the literature's by resolution"
    )
    width: Annotated[int, Field(ge=1, le=65_536)] = Field(128, description="channels of a ConvNet")
    norm: Literal["instance", "none"] = Field("instance", description="normalisation of a ConvNet")


def resolved(options: dict[str, object], resolution: int) -> dict[str, object]:
    """The options with none left to be chosen later, for images of a resolution."""
    return {**options, "depth": options.get("depth") or depth_for(resolution)}


def depth_for(resolution: int) -> int:
    """The literature's depth at this resolution: the last map is 4x4 from 32x32 on; below, three blocks."""
    return next((depth for size, depth in PUBLISHED_DEPTH.items() if resolution <= size), 6)


def build(
    channels: int, classes: int, resolution: int, *, depth: int | None = None, width: int = 128, norm: str = "instance"
) -> nn.Module:
    """ConvNetD{depth}; `depth` defaults to the literature's for the resolution, `norm` is instance or none.

    28x28 images are padded to 32x32 by the first convolution, as the literature does with MNIST.
    """
    from torch import nn

    from attcli.networks.norms import InstanceNorm, halvings

    depth = depth or depth_for(resolution)
    padding = 3 if resolution == 28 else 1
    size = resolution + 2 * padding - 2
    layers: list[nn.Module] = []
    halve = [*halvings(size, depth - 1), size > 1]
    for block in range(depth):
        layers.append(nn.Conv2d(width if block else channels, width, 3, padding=1 if block else padding))
        if norm == "instance":
            layers.append(InstanceNorm(width))
        layers.append(nn.ReLU())
        if halve[block]:
            layers.append(nn.AvgPool2d(2))
            size //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * size * size, classes))
