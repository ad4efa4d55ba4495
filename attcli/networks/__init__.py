"""The networks of the literature, one file each, found by their file's name."""

from importlib import import_module

from torch import nn


def build(name: str, channels: int, classes: int, resolution: int, **options: object) -> nn.Module:
    """A freshly initialised network for images (channels, resolution, resolution) and `classes` outputs.

    Initial weights come from torch's global generator, as torch's layers draw them: fork and seed it around the call.
    """
    module = import_module(f"attcli.networks.{name}")
    network: nn.Module = module.build(channels, classes, resolution, **options)
    return network
