"""Which span of an expert's trajectory is matched.

A window maps the iteration to the half-open range of epochs from which the start epoch is drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StartEpochs:
    """Start epochs lie from `minimum` to below `maximum`; a window that grows begins by ending at `current`.

    It is fully grown at the iteration `expansion_end`.
    """

    minimum: int
    maximum: int
    current: int
    expansion_end: int


Window = Callable[[StartEpochs, int], tuple[int, int]]
"""(bounds, iteration) to the first start epoch and the one behind the last."""


def fixed(bounds: StartEpochs, iteration: int) -> tuple[int, int]:
    """MTT's and ATT's window: start epochs minimum .. maximum - 1 at every iteration."""
    return bounds.minimum, bounds.maximum


def expanding(bounds: StartEpochs, iteration: int) -> tuple[int, int]:
    """DATM's window: its end grows linearly from `current` to `maximum`, which it reaches at `expansion_end`."""
    grown = bounds.current + (bounds.maximum - bounds.current) * iteration // bounds.expansion_end
    return bounds.minimum, min(grown, bounds.maximum)


WINDOWS: dict[str, Window] = {"fixed": fixed, "expanding": expanding}
