"""What storages of few bits share: a number x is kept as a code q in 0 … top, and stands for low + step q.

q = round((x - low) / step). All in float32, so that what is read is what the student saw, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from attcli.options import Section

if TYPE_CHECKING:
    from torch import Tensor


class Options(Section):
    """When scales are fitted anew."""

    scales_every: int = Field(
        50, ge=1, description="uint8, codes: after how many iterations scales are fitted anew, again and again"
    )
    scales_until: int = Field(
        4000,
        ge=0,
        description="uint8, codes: the iteration after which scales stay as they are; usually two thirds of all "
        "iterations",
    )


def refits(iteration: int, every: int, until: int) -> bool:
    """Whether scales are fitted anew after so many iterations."""
    return iteration % every == 0 and iteration <= until


def codes_of(numbers: Tensor, low: Tensor, step: Tensor, top: int) -> Tensor:
    """The codes u8 of numbers; those out of range get the nearest code, and all get 0 where the step is 0."""
    import torch

    places = (numbers.float() - low) / torch.where(step > 0, step, 1.0)
    return places.round().clamp(0, top).to(torch.uint8)


def numbers_of(codes: Tensor, low: Tensor, step: Tensor) -> Tensor:
    """The numbers f32 that codes stand for."""
    return low + step * codes.float()


def beyond(numbers: Tensor, low: Tensor, step: Tensor, top: int) -> Tensor:
    """1 for numbers above what codes reach, -1 for those below, 0 for all others; half a step is still within reach."""
    import torch

    places = numbers.float() - low
    return (places > step * (top + 0.5)).to(torch.int8) - (places < -step / 2).to(torch.int8)
