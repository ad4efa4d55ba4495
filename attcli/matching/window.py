"""Which span of an expert's trajectory is matched.

A window maps the iteration to the half-open range of epochs from which the start epoch is drawn.
"""

from collections.abc import Callable

Window = Callable[[int, int, int, int, int], tuple[int, int]]
"""(minimum, current maximum, maximum, expansion end, iteration) to (first, end)."""


def fixed(minimum: int, current: int, maximum: int, expansion_end: int, iteration: int) -> tuple[int, int]:
    """MTT's and ATT's window: start epochs minimum .. maximum - 1 at every iteration."""
    return minimum, maximum


def expanding(minimum: int, current: int, maximum: int, expansion_end: int, iteration: int) -> tuple[int, int]:
    """DATM's window: its end grows linearly from `current` to `maximum`, which it reaches at `expansion_end`."""
    grown = current + (maximum - current) * iteration // expansion_end
    return minimum, min(grown, maximum)


WINDOWS: dict[str, Window] = {"fixed": fixed, "expanding": expanding}
