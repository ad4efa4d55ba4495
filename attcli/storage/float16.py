"""float16: two bytes per number, with 11 significant bits."""

from attcli.storage.floats import Floats


def make() -> Floats:
    """Two bytes per number."""
    return Floats("float16", 16)
