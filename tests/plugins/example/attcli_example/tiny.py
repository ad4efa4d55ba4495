"""A network with an option of its own."""

from pydantic import Field

from attcli.options import Section


class Options(Section):
    """The network's options."""

    hidden: int = Field(6, ge=1, le=1000, description="hidden units of `tiny`")


def build(channels, classes, resolution, *, hidden=6):
    """A perceptron with one hidden layer."""
    from torch import nn

    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * resolution**2, hidden), nn.Tanh(), nn.Linear(hidden, classes)
    )
