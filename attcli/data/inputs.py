"""A dataset's images as network inputs, held or read as their size allows, and random choices among them."""

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from loguru import logger
from torch import Tensor

from attcli.data.normalise import Normaliser, chunk_size

READY_BYTES = 1 << 30
"""Images that take less than this as float32 are normalised once and held; of others each batch is, when it is read."""


class Stored(Protocol):
    """Images u8 (N, C, H, W) by their indices: a tensor, or a file's."""

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Tensor: ...


def network_inputs(images: Tensor, value_scale: float, normaliser: Normaliser) -> Tensor:
    """Stored images u8 (N, C, H, W) as normalised f32 network inputs."""
    if not len(images):
        return images.float()
    size = chunk_size(images[0].numel())
    return torch.cat([normaliser.forward(part.float() * value_scale) for part in images.split(size)])


def held_bytes(shape: tuple[int, ...]) -> int:
    """The bytes that images of this shape (N, C, H, W) are held in: as float32 where they are few, else as they are."""
    values = math.prod(shape)
    return 4 * values if 4 * values < READY_BYTES else values


class NetworkInputs:
    """Images (N, C, H, W) as networks see them, normalised when they are read: `inputs[index]` for an index (B,).

    They are kept as u8: on the device where it has room for them, else where `stored` has them, in memory or in a file.
    What is read does not depend on that.
    """

    def __init__(
        self, stored: Stored, value_scale: float, normaliser: Normaliser, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device, self.shape = device, stored.shape
        self._value_scale, self._normaliser, self._dtype = value_scale, normaliser, dtype
        self._stored = stored
        where = "in memory" if isinstance(stored, Tensor) else "in their file"
        if isinstance(stored, Tensor) and device.type == "cuda" and _room(device) > 2 * stored.numel():
            self._stored, where = stored.to(device), "on the device"
        logger.info("{} images stay as bytes {}; each batch is normalised when it is read", len(stored), where)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The images with these indices (B,), as normalised inputs (B, C, H, W) on the device."""
        at = index.to(self._stored.device) if isinstance(self._stored, Tensor) else index.cpu()
        images = self._stored[at].to(self.device)
        return self._normaliser.forward(images.float() * self._value_scale).to(self._dtype)


def _room(device: torch.device) -> int:
    """The bytes of free memory of a GPU."""
    return int(torch.cuda.mem_get_info(device)[0])


Inputs = Tensor | NetworkInputs
"""Network inputs by their indices."""


def inputs_of(
    stored: Stored, value_scale: float, normaliser: Normaliser, device: torch.device, dtype: torch.dtype
) -> Inputs:
    """All images as network inputs: a tensor on the device where they are few, else such as are made when read.

    Which of both it is follows from their size alone, so that the same settings compute the same bytes.
    """
    if not len(stored) or held_bytes(tuple(stored.shape)) > stored.shape.numel():
        everything = stored[torch.arange(len(stored))] if not isinstance(stored, Tensor) else stored
        return network_inputs(everything, value_scale, normaliser).to(device, dtype)
    return NetworkInputs(stored, value_scale, normaliser, device, dtype)


TOGETHER = 250
"""Images that a network judges or labels at a time, at most."""

AT_A_TIME = 250 * 3 * 128 * 128
"""Values of the images that a network sees at a time where it only looks at them: more pixels are fewer images."""


def at_a_time(images: Inputs, most: int = TOGETHER) -> int:
    """How many of these images (N, C, H, W) a network should be shown at a time, `most` where they are small."""
    return max(1, min(most, AT_A_TIME // max(1, math.prod(images.shape[1:]))))


def in_batches(inputs: Inputs, size: int) -> Iterator[Tensor]:
    """All images in their order, `size` at a time."""
    for first in range(0, len(inputs), size):
        index = torch.arange(first, min(first + size, len(inputs)), device=inputs.device)
        yield inputs[first : first + size] if isinstance(inputs, Tensor) else inputs[index]


def of_each_class(labels: Tensor, counts: list[int], generator: torch.Generator) -> Tensor:
    """Indices of counts[c] different random images of each class c, class by class. ValueError if there are fewer."""
    indices = []
    for c, count in enumerate(counts):
        (members,) = torch.nonzero(labels == c, as_tuple=True)
        if len(members) < count:
            raise ValueError(f"class {c} has {len(members)} images, fewer than {count}")
        indices.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(indices)
