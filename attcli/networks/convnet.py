"""ConvNet: the network that dataset distillation is measured on (D blocks of convolution, norm, ReLU, mean pool)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from attcli.errors import UserError
from attcli.options import Section

if TYPE_CHECKING:
    from torch import nn


PUBLISHED_DEPTH = {32: 3, 64: 4, 128: 5, 256: 6}


class Options(Section):
    """A ConvNet's options, which are settings of `network`."""

    depth: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="blocks of a ConvNet; default: as many as in the literature for images of this size"
    )
    width: Annotated[int, Field(ge=1, le=65_536)] = Field(128, description="channels of a ConvNet")
    norm: Literal["instance", "batch", "layer", "group", "none"] = Field(
        "instance", description="normalisation of a ConvNet: instance, batch, layer, group or none"
    )
    pooling: Literal["avg", "max", "none"] = Field(
        "avg", description="pooling of a ConvNet: avg (the mean), max or none"
    )
    activation: Literal["relu", "leakyrelu", "sigmoid"] = Field(
        "relu", description="activation of a ConvNet: relu, leakyrelu or sigmoid"
    )


LATER = ("pooling", "activation")
"""Options that came later: their defaults are left out of identities, so that these stay those of earlier versions."""


def resolved(options: dict[str, object], resolution: int) -> dict[str, object]:
    """The options that decide the network, with none left to be chosen later, for images of a resolution."""
    defaults = {name: Options.model_fields[name].default for name in LATER}
    decisive = {name: value for name, value in options.items() if name not in LATER or value != defaults[name]}
    return {**decisive, "depth": options.get("depth") or depth_for(resolution)}


def check(options: dict[str, Any]) -> None:
    """UserError where options do not go together."""
    width = options.get("width", 128)
    if options.get("norm") == "group" and width % 4:
        raise UserError(f"network.norm group needs a network.width that 4 divides, and {width} is not; choose another")


def depth_for(resolution: int) -> int:
    """The literature's depth at this resolution: the last map is 4x4 from 32x32 on; below, three blocks."""
    return next((depth for size, depth in PUBLISHED_DEPTH.items() if resolution <= size), 6)


def build(
    channels: int,
    classes: int,
    resolution: int,
    *,
    depth: int | None = None,
    width: int = 128,
    norm: str = "instance",
    pooling: str = "avg",
    activation: str = "relu",
) -> nn.Module:
    """ConvNetD{depth}; `depth` defaults to the literature's for the resolution, the other values are those of Options.

    28x28 images are padded to 32x32 by the first convolution, as the literature does with MNIST.
    """
    from torch import nn

    from attcli.networks import norms

    depth = depth or depth_for(resolution)
    padding = 3 if resolution == 28 else 1
    size = resolution + 2 * padding - 2
    pool = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}.get(pooling)
    activate = {"relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "sigmoid": nn.Sigmoid}[activation]
    halve = [*norms.halvings(size, depth - 1), size > 1]
    layers: list[nn.Module] = []
    for block in range(depth):
        layers.append(nn.Conv2d(width if block else channels, width, 3, padding=1 if block else padding))
        if norm != "none":
            layers.append(norms.norm(norm, width, size))
        layers.append(activate())
        if pool and halve[block]:
            layers.append(pool(2))
            size //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * size * size, classes))
