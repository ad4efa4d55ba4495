"""float64: eight bytes per number, for checks of the mathematics together with `distill.precision=float64`."""

from attcli.storage.floats import Floats


def make() -> Floats:
    """Eight bytes per number."""
    return Floats("float64", 64)
