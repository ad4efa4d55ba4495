"""A dataset's images as network inputs, and random choices among them."""

import torch
from torch import Tensor

from attcli.data.normalise import CHUNK, Normaliser


def network_inputs(images: Tensor, value_scale: float, normaliser: Normaliser) -> Tensor:
    """Stored images u8 (N, C, H, W) as normalised f32 network inputs."""
    if not len(images):
        return images.float()
    return torch.cat([normaliser.forward(part.float() * value_scale) for part in images.split(CHUNK)])


def of_each_class(labels: Tensor, counts: list[int], generator: torch.Generator) -> Tensor:
    """Indices of counts[c] different random images of each class c, class by class. ValueError if there are fewer."""
    chosen = []
    for c, count in enumerate(counts):
        (members,) = torch.nonzero(labels == c, as_tuple=True)
        if len(members) < count:
            raise ValueError(f"class {c} has {len(members)} images, fewer than {count}")
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(chosen)
