"""The networks of timm, which is optional: `timm:NAME` is its model NAME, freshly initialised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from attcli import registry
from attcli.errors import optional

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Member:
    """One of timm's models."""

    name: str

    def takes(self, resolution: int) -> bool:
        """Whether a forward sweep over an image of this resolution succeeds, tried without computing anything."""
        return _succeeds(self, resolution)

    def build(self, channels: int, classes: int, resolution: int) -> nn.Module:
        """The model for images of this shape; those that are made for one size, as a ViT is, are made for this one."""
        timm = library()
        size: dict[str, Any] = {"img_size": resolution} if made_for_a_size(self.name) else {}
        network: nn.Module = timm.create_model(
            self.name, pretrained=False, in_chans=channels, num_classes=classes, **size
        )
        part: Any
        for part in network.modules():
            if hasattr(part, "fused_attn"):
                part.fused_attn = False  # the fused kernels have no second derivative
            for chance in ("drop_rate", "drop_prob", "drop_path_rate"):
                if isinstance(getattr(part, chance, None), float):
                    setattr(part, chance, 0.0)  # dropped by functions, not by layers: g would be another at each call
        return network


@cache
def _succeeds(member: Member, resolution: int) -> bool:
    import torch

    try:
        with torch.device("meta"), torch.no_grad():
            member.build(3, 2, resolution).eval()(torch.empty(1, 3, resolution, resolution))
    except (RuntimeError, AssertionError, ValueError, TypeError):
        return False
    return True


def library() -> Any:
    """The module `timm`. UserError where it is not installed."""
    return optional("timm", "timm", "networks called timm:NAME")


def made_for_a_size(name: str) -> bool:
    """Whether the model is built for images of one size."""
    return bool(library().models.get_pretrained_cfg(name, allow_unregistered=True).fixed_input_size)


def member(name: str) -> Member:
    """The model of that name. UserError if timm is not installed, or has none."""
    where = "`python -c 'import timm; print(timm.list_models())'` lists them"
    registry.known("model of timm", name, library().list_models(), where)
    return Member(name)
