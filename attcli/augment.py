"""Differentiable siamese augmentation (DSA, ICML 2021), its random draws apart from their application.

A batch undergoes one operation of the strategy, each of its images with parameters of its own. A strategy may have
several parts, of which each applies one of its operations to the batch, in their order (IDC, ICML 2022). The draws are
plain uniform numbers, so all draws of an outer iteration are one small tensor; applying them is a fixed,
differentiable function of the images. Zero fills whatever an operation uncovers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

UNIFORMS = 3
"""How many uniform numbers an operation may use for each image."""

BRIGHTNESS = 1.0
SATURATION = 2.0
CONTRAST = 0.5
CROP = 0.125
CUTOUT = 0.5
SCALE = 1.2
ROTATE = 15.0


class Draw(NamedTuple):
    """One batch's draw: its operation and uniform numbers (B, UNIFORMS) in [0, 1).

    Several operations are joined by `+`, and have UNIFORMS numbers each; the name is empty for none.
    """

    operation: str
    uniform: Tensor


def parts(strategy: str) -> tuple[tuple[str, ...], ...]:
    """The operations of each part of a strategy: `color_crop` has one part, `color+crop_scale` two, `none` none.

    ValueError for an unknown operation.
    """
    found = () if strategy == "none" else tuple(tuple(part.split("_")) for part in strategy.split("+"))
    if unknown := [name for names in found for name in names if name not in OPERATIONS]:
        raise ValueError(f"unknown augmentation {unknown[0]!r}; choose from {', '.join(OPERATIONS)}, or none")
    return found


def without(strategy: str, operation: str) -> str:
    """The strategy without an operation."""
    left = (tuple(name for name in names if name != operation) for names in parts(strategy))
    return "+".join("_".join(names) for names in left if names) or "none"


@dataclass(frozen=True)
class Draws:
    """The draws of N batches: each one's operation, and all their uniform numbers in one tensor, as `Draw` has them."""

    operations: tuple[str, ...]
    uniform: Tensor

    def __len__(self) -> int:
        return len(self.operations)

    def __getitem__(self, step: int) -> Draw:
        if step >= len(self):
            raise IndexError(step)
        return Draw(self.operations[step], self.uniform[step])


def draw(strategy: str, n_steps: int, batch: int, generator: torch.Generator) -> Draws:
    """The draws of `n_steps` batches, on the generator's device."""
    of_parts = parts(strategy)
    if not of_parts:
        return Draws(("",) * n_steps, torch.empty((n_steps, 0, UNIFORMS)))
    picks = [torch.randint(len(names), (n_steps,), generator=generator).tolist() for names in of_parts]
    uniform = torch.rand((n_steps, batch, UNIFORMS * len(of_parts)), generator=generator)
    chosen = (
        "+".join(names[pick] for names, pick in zip(of_parts, of_step, strict=True))
        for of_step in zip(*picks, strict=True)
    )
    return Draws(tuple(chosen), uniform)


def apply(drawn: Draw, images: Tensor) -> Tensor:
    """The augmented images (B, C, H, W), differentiable in the images."""
    if not drawn.operation:
        return images
    names, uniform = drawn.operation.split("+"), drawn.uniform.to(images)
    for name, numbers in zip(names, uniform.split(UNIFORMS, dim=1), strict=True):
        images = OPERATIONS[name](images, numbers)
    return images


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _color(x: Tensor, u: Tensor) -> Tensor:
    """Brightness, then saturation around each pixel's mean, then contrast around the image's."""
    x = x + BRIGHTNESS * _per_image(u[:, 0] - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * _per_image(SATURATION * u[:, 1]) + grey
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * _per_image(u[:, 2] + CONTRAST) + mean


def _take(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """X at integer positions (B, H, W) of each image, zero outside it.

    A gather, whose derivative torch can add up in a fixed order on every device, unlike `grid_sample`'s.
    """
    b, c, h, w = x.shape
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    index = (rows.clamp(0, h - 1) * w + columns.clamp(0, w - 1)).view(b, 1, h * w).expand(b, c, h * w)
    return x.reshape(b, c, h * w).gather(2, index).view(b, c, h, w) * inside.unsqueeze(1)


def _grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers (1, H, 1) and column numbers (1, 1, W)."""
    h, w = x.shape[2:]
    return torch.arange(h, device=x.device).view(1, h, 1), torch.arange(w, device=x.device).view(1, 1, w)


def _crop(x: Tensor, u: Tensor) -> Tensor:
    """A shift by up to an eighth of the side in each direction."""
    reach = [int(side * CROP + 0.5) for side in x.shape[2:]]
    return shifted(x, u, (reach[0], reach[1]))


def shifted(x: Tensor, u: Tensor, reach: tuple[int, int]) -> Tensor:
    """Images (B, C, H, W) shifted by up to so many rows and columns, by uniform numbers (B, 2 or more)."""
    rows, columns = _grid(x)
    shift = [(u[:, i] * (2 * reach[i] + 1)).floor().long().view(-1, 1, 1) - reach[i] for i in (0, 1)]
    rows, columns = torch.broadcast_tensors(rows + shift[0], columns + shift[1])
    return _take(x, rows, columns)


def _cutout(x: Tensor, u: Tensor) -> Tensor:
    """A zeroed square of half the side, its centre anywhere, cut off at the border."""
    h, w = x.shape[2:]
    rows, columns = _grid(x)
    hidden = torch.ones((), dtype=torch.bool, device=x.device)
    for i, (position, side) in enumerate(((rows, h), (columns, w))):
        size = int(side * CUTOUT + 0.5)
        centre = (u[:, i] * (side + 1 - size % 2)).floor().long().view(-1, 1, 1)
        first = centre - size // 2
        hidden = hidden & (position >= first) & (position < first + size)
    return x * ~hidden.unsqueeze(1)


def _flip(x: Tensor, u: Tensor) -> Tensor:
    """A horizontal mirror image, half of the time."""
    return torch.where(_per_image(u[:, 0] < 0.5), x.flip(3), x)


def _affine(x: Tensor, xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    """X resampled bilinearly at the positions that the 2x2 matrices map each pixel to, around the centre.

    The matrices (B,) act on coordinates that run from -1 to 1 between the centres of the outermost pixels
    (torch's align_corners=True).
    """
    b, _, h, w = x.shape
    across = torch.linspace(-1, 1, w, dtype=x.dtype, device=x.device).view(1, 1, w)
    down = torch.linspace(-1, 1, h, dtype=x.dtype, device=x.device).view(1, h, 1)
    xx, xy, yx, yy = (value.view(b, 1, 1) for value in (xx, xy, yx, yy))
    column = ((xx * across + xy * down) + 1) * ((w - 1) / 2)
    row = ((yx * across + yy * down) + 1) * ((h - 1) / 2)
    left, top = column.floor(), row.floor()
    right_share, lower_share = (column - left).unsqueeze(1), (row - top).unsqueeze(1)
    c0, r0 = left.long(), top.long()
    upper = _take(x, r0, c0) * (1 - right_share) + _take(x, r0, c0 + 1) * right_share
    lower = _take(x, r0 + 1, c0) * (1 - right_share) + _take(x, r0 + 1, c0 + 1) * right_share
    return upper * (1 - lower_share) + lower * lower_share


def _scale(x: Tensor, u: Tensor) -> Tensor:
    """Each axis stretched by its own factor between 1/1.2 and 1.2."""
    factor = 1 / SCALE + u * (SCALE - 1 / SCALE)
    zero = torch.zeros_like(u[:, 0])
    return _affine(x, factor[:, 0], zero, zero, factor[:, 1])


def _rotate(x: Tensor, u: Tensor) -> Tensor:
    """A turn by up to 15 degrees either way."""
    angle = (u[:, 0] - 0.5) * (2 * ROTATE * math.pi / 180)
    return _affine(x, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
