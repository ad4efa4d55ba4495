"""The networks of the literature, one file each, found by their file's name."""

from dataclasses import dataclass
from importlib import import_module

from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A network by name, for images of a channel count and resolution, with the options of its builder."""

    name: str
    channels: int
    classes: int
    resolution: int
    options: dict[str, object]

    def build(self) -> nn.Module:
        """A freshly initialised network.

        Initial weights come from torch's global generator, as torch's layers draw them: seed it around the call.
        """
        module = import_module(f"attcli.networks.{self.name}")
        network: nn.Module = module.build(self.channels, self.classes, self.resolution, **self.options)
        return network
