"""The networks of the literature, one file each, found by their file's name; and those of timm, as `timm:NAME`.

A network's module has `build`, and may have `takes(resolution)`, whether it can be built for images of a resolution,
`check(options)`, which raises where options do not go together, and `resolved(options, resolution)`, the options with
values in place of those that the network chooses itself: what results depend on is known by these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attcli import registry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A network by name, for images of a channel count and resolution, with the options of its builder."""

    name: str
    channels: int
    classes: int
    resolution: int
    options: dict[str, object]

    @classmethod
    def of(cls, spec: Mapping[str, Any], about: Mapping[str, Any]) -> Architecture:
        """The network of a spec {arch, and its options}, for the images that an artefact's header is about.

        UserError where it does not take such images.
        """
        registry.check_network(str(spec["arch"]), about["resolution"], spec)
        read = registry.options("network", str(spec["arch"]))
        options = {name: value for name, value in spec.items() if name in read}
        return cls(str(spec["arch"]), about["channels"], len(about["classes"]), about["resolution"], options)

    def __hash__(self) -> int:
        return hash((self.name, self.channels, self.classes, self.resolution, tuple(sorted(self.options.items()))))

    def build(self) -> nn.Module:
        """A freshly initialised network.

        Initial weights come from torch's global generator, as torch's layers draw them: seed it around the call.
        """
        network: nn.Module = registry.module("network", self.name).build(
            self.channels, self.classes, self.resolution, **self.options
        )
        return network
