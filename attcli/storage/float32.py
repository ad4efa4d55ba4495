"""float32: four bytes per number, which is what `ipc` counts in."""

from attcli.storage.floats import Floats


def make() -> Floats:
    """Four bytes per number."""
    return Floats("float32", 32)
