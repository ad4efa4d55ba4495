"""Which span of an expert's trajectory is matched.

A window maps the iteration to the half-open range of epochs from which the start epoch is drawn.
"""


def fixed(minimum: int, maximum: int) -> tuple[int, int]:
    """MTT's and ATT's window: start epochs minimum .. maximum - 1 at every iteration."""
    return minimum, maximum
