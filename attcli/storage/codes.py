"""codes: 1 to 6 bits per number, on grids that groups of patches share (after PTQ-DC, AAAI 2026).

A unit is cut into patches: of an image patch x patch pixels, all channels together; of other tensors as many
consecutive numbers of each channel. Patches with similar smallest and largest numbers form a group (k-means); a group's
grid lies between the smallest and largest number of all its patches, its lowest value and its step kept in float16; no
step is below 1/255 of the whole range, so that a flat patch can change. A file holds the codes
(packed, and compressed by zlib where that makes them smaller), each patch's group, and each group's grid. Without
groups (code_groups 0) every patch has a grid of its own.
"""

from __future__ import annotations

import zlib
from math import prod
from typing import TYPE_CHECKING

from pydantic import Field

from attcli.storage import affine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from attcli.storage import Limits, Packed, Scales

FLOAT16 = 65_504.0
"""The largest number of float16."""

ROUNDS = 25
"""Rounds of k-means at most; it ends before that where no patch changes its group."""

SAMPLE = 20_000
"""Patches that k-means looks for its centres among; all patches then take the nearest centre."""

CHUNK = 1 << 18
"""Numbers that are packed, and patches that are assigned, at a time; a multiple of 8, so that bits end with bytes."""

FINEST = 255
"""No grid has a step below this part of the whole range: none is finer than one of uint8 would be."""


class Options(affine.Options):
    """The options of codes."""

    code_bits: int = Field(4, ge=1, le=6, description="codes: bits per number")
    code_patch: int = Field(
        5, ge=1, le=256, description="codes: side of a patch in pixels; all numbers of a patch have the same scale"
    )
    code_groups: int = Field(
        64,
        ge=0,
        le=4096,
        description="codes: how many scales there are, shared by the patches; 0: each patch has its own",
    )


class Codes:
    """Scales: `group` i64 (n, patches), the group of each patch; `low` and `step` f32 (groups,), rounded to float16."""

    def __init__(self, every: int, until: int, bits: int, patch: int, groups: int) -> None:
        self._every, self._until = every, until
        self._bits, self._patch, self._groups = bits, patch, groups
        self._top = 2**bits - 1

    def bits(self, shape: tuple[int, ...]) -> int:
        """The codes, and each patch's group or, where it has its own, its scale of four bytes."""
        patches = _patches(shape, self._patch)
        return self._bits * prod(shape) + patches * (_bits_of(self._groups) if self._groups else 32)

    def size(self, shape: tuple[int, ...]) -> int:
        """The codes, each patch's group, and four bytes for each grid."""
        patches = shape[0] * _patches(shape[1:], self._patch)
        groups = -(-patches * _bits_of(self._groups) // 8) if self._groups else 0
        return -(-prod(shape) * self._bits // 8) + groups + 4 * (self._groups or patches)

    def refits(self, iteration: int) -> bool:
        """Every so many iterations, until the last of them."""
        return affine.refits(iteration, self._every, self._until)

    def fit(self, numbers: Tensor, limits: Limits | None) -> Scales:
        """Groups of patches with similar ranges, and each group's grid."""
        import torch

        lowest, highest = self._ranges(numbers.detach().float().cpu())
        ranges = torch.stack([lowest.flatten(), highest.flatten()], dim=1)
        group = clustered(ranges, self._groups) if self._groups else torch.arange(len(ranges))
        count = self._groups or len(ranges)
        low = ranges.new_full((count,), torch.inf).scatter_reduce(0, group, ranges[:, 0], "amin")
        high = ranges.new_full((count,), -torch.inf).scatter_reduce(0, group, ranges[:, 1], "amax")
        empty = low > high
        low, high = low.masked_fill(empty, 0), high.masked_fill(empty, 0)
        smallest, largest = limits or (float(ranges[:, 0].min()), float(ranges[:, 1].max()))
        low, step = self._grids(low, high, smallest, largest)
        device = numbers.device
        return {"group": group.view_as(lowest).to(device), "low": low.to(device), "step": step.to(device)}

    def _grids(self, low: Tensor, high: Tensor, smallest: float, largest: float) -> tuple[Tensor, Tensor]:
        """Lowest values and steps in float16 of grids that contain all from low to high.

        A range that is too narrow is widened on both sides, though not below what is allowed; above it may go beyond.
        """
        widest = (largest - smallest) / FINEST * self._top
        missing = (widest - (high - low)).clamp(min=0) / 2
        low = (low - missing).clamp(min=smallest).minimum(low)
        high = high.maximum(low + widest)
        low = _float16(low, up=False)
        return low, _float16((high - low) / self._top, up=True)

    def _ranges(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The smallest and the largest number of each patch, each (n, patches)."""
        patch = _patch_of(tuple(numbers.shape[1:]), self._patch).flatten()
        flat = numbers.reshape(len(numbers), numbers.shape[1], -1)
        index = patch.expand(len(numbers), -1)
        size = (len(numbers), int(patch.max()) + 1)
        lowest = flat.new_full(size, float("inf")).scatter_reduce(1, index, flat.amin(dim=1), "amin")
        highest = flat.new_full(size, float("-inf")).scatter_reduce(1, index, flat.amax(dim=1), "amax")
        return lowest, highest

    def _spread(self, numbers: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
        """The lowest value and the step of each number's grid, each (n, 1, …)."""
        patch = _patch_of(tuple(numbers.shape[1:]), self._patch).to(numbers.device)
        group = scales["group"][:, patch].unsqueeze(1)
        return scales["low"][group], scales["step"][group]

    def rounded(self, numbers: Tensor, scales: Scales) -> Tensor:
        """The nearest values of the grids."""
        low, step = self._spread(numbers, scales)
        return affine.numbers_of(affine.codes_of(numbers, low, step, self._top), low, step).to(numbers.dtype)

    def beyond(self, numbers: Tensor, scales: Scales) -> Tensor | None:
        """On which side of their grids numbers lie."""
        return affine.beyond(numbers, *self._spread(numbers, scales), self._top)

    def pack(self, numbers: Tensor, scales: Scales) -> Packed:
        """`codes` and `group` u8, packed bits; `low` and `step` f16 (groups,). Without groups there is no `group`."""
        import numpy as np

        codes = affine.codes_of(numbers, *self._spread(numbers, scales), self._top).numpy()
        raw = packed_bits(codes, self._bits)
        small = np.frombuffer(zlib.compress(raw.tobytes(), 9), np.uint8)
        arrays: Packed = {
            "codes": small if len(small) < len(raw) else raw,
            "low": scales["low"].numpy().astype(np.float16),
            "step": scales["step"].numpy().astype(np.float16),
        }
        if self._groups > 1:
            arrays["group"] = packed_bits(scales["group"].numpy(), _bits_of(self._groups))
        return arrays

    def scales_of(self, packed: Packed, shape: tuple[int, ...]) -> Scales:
        """Each patch's group, and the groups' grids."""
        import numpy as np
        import torch

        patches = _patches(shape[1:], self._patch)
        count = self._groups or shape[0] * patches
        low, step = (np.asarray(packed[name]) for name in ("low", "step"))
        if any(part.shape != (count,) or part.dtype != np.float16 for part in (low, step)):
            raise ValueError("its scales have another shape or type than it says")
        if self._groups > 1:
            packed_group = np.asarray(packed["group"])
            group = unpacked_bits(packed_group, _bits_of(self._groups), shape[0] * patches).astype(np.int64)
            if group.max() >= count:
                raise ValueError("a patch is of a group that there is not")
        else:
            group = np.zeros(shape[0] * patches, np.int64) if self._groups else np.arange(shape[0] * patches)
        return {
            "group": torch.from_numpy(group).view(shape[0], patches),
            "low": torch.from_numpy(low.astype(np.float32)),
            "step": torch.from_numpy(step.astype(np.float32)),
        }

    def unpack(self, packed: Packed, shape: tuple[int, ...]) -> Tensor:
        """The values f32 of the codes."""
        import numpy as np
        import torch

        scales = self.scales_of(packed, shape)
        raw = _inflated(np.asarray(packed["codes"]), -(-prod(shape) * self._bits // 8))
        codes = torch.from_numpy(unpacked_bits(raw, self._bits, prod(shape)).astype(np.uint8)).view(shape)
        return affine.numbers_of(codes, *self._spread(codes, scales))


def _inflated(codes: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """The packed codes, u8 (size,). ValueError for anything that does not become exactly as long."""
    import numpy as np

    if codes.dtype != np.uint8 or codes.ndim != 1:
        raise ValueError("its codes are no bytes")
    if len(codes) == size:
        return codes
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(codes.tobytes(), size)
    except zlib.error as error:
        raise ValueError(f"its codes can't be decompressed: {error}") from None
    if len(raw) != size or inflate.unconsumed_tail or not inflate.eof:
        raise ValueError("its codes have another length than it says")
    return np.frombuffer(raw, np.uint8)


def packed_bits(values: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    """Whole numbers below 2^bits as bytes, their lowest bit first, one number after the other."""
    import numpy as np

    flat = values.reshape(-1)
    places = np.arange(bits, dtype=np.uint16)
    parts = [
        np.packbits((flat[first : first + CHUNK, None].astype(np.uint16) >> places & 1).astype(np.uint8))
        for first in range(0, len(flat), CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def unpacked_bits(packed: NDArray[np.generic], bits: int, count: int) -> NDArray[np.uint16]:
    """The numbers u16 (count,) again. ValueError where they are too few or too many."""
    import numpy as np

    if packed.dtype != np.uint8 or packed.shape != (-(-count * bits // 8),):
        raise ValueError("its packed numbers have another length than it says")
    weights = 1 << np.arange(bits, dtype=np.uint16)
    numbers = np.empty(count, np.uint16)
    for first in range(0, count, CHUNK):
        last = min(first + CHUNK, count)
        part = packed[first * bits // 8 : -(-last * bits // 8)].astype(np.uint8)
        spread = np.unpackbits(part, count=(last - first) * bits).reshape(-1, bits)
        numbers[first:last] = spread.astype(np.uint16) @ weights
    return numbers


def _bits_of(groups: int) -> int:
    """The bits that say which of so many groups."""
    return (groups - 1).bit_length()


def _patches(shape: tuple[int, ...], patch: int) -> int:
    """How many patches a unit (C, …) is cut into."""
    if len(shape) == 3:
        return (-(-shape[1] // patch)) * (-(-shape[2] // patch))
    return -(-prod(shape[1:]) // patch**2)


def _patch_of(shape: tuple[int, ...], patch: int) -> Tensor:
    """The patch of each place of a unit (C, …), i64 of the shape without channels."""
    import torch

    if len(shape) == 3:
        rows, columns = (torch.arange(size) // patch for size in shape[1:])
        return rows.unsqueeze(1) * -(-shape[2] // patch) + columns
    return (torch.arange(prod(shape[1:])) // patch**2).view(shape[1:])


def _float16(x: Tensor, *, up: bool) -> Tensor:
    """Numbers f32 as the next one that float16 can hold, up or down."""
    import numpy as np
    import torch

    wanted = x.numpy()
    rounded = wanted.clip(-FLOAT16, FLOAT16).astype(np.float16)
    beyond = rounded < wanted if up else rounded > wanted
    rounded = np.where(beyond, np.nextafter(rounded, np.float16(FLOAT16 if up else -FLOAT16)), rounded)
    return torch.from_numpy(rounded.astype(np.float32))


def clustered(points: Tensor, groups: int) -> Tensor:
    """The group i64 (n,) of each point (n, 2) by k-means (k-means++, fixed seed): the same for the same points."""
    import torch

    generator = torch.Generator().manual_seed(0)
    sample = points[torch.randperm(len(points), generator=generator)[:SAMPLE]].double()
    centres = sample[:1]
    nearest = (sample - centres).square().sum(dim=1)
    while len(centres) < groups and bool((nearest > 0).any()):
        picked = sample[torch.multinomial(nearest, 1, generator=generator)]
        centres = torch.cat([centres, picked])
        nearest = torch.minimum(nearest, (sample - picked).square().sum(dim=1))
    group = torch.cdist(sample, centres).argmin(dim=1)
    for _ in range(ROUNDS):
        sums = torch.zeros_like(centres).index_add(0, group, sample)
        counts = torch.bincount(group, minlength=len(centres)).unsqueeze(1)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        moved = torch.cdist(sample, centres).argmin(dim=1)
        if torch.equal(moved, group):
            break
        group = moved
    return torch.cat([torch.cdist(part.double(), centres).argmin(dim=1) for part in points.split(CHUNK)])


def make(scales_every: int, scales_until: int, code_bits: int, code_patch: int, code_groups: int) -> Codes:
    """Codes with their options."""
    return Codes(scales_every, scales_until, code_bits, code_patch, code_groups)
