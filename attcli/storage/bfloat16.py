"""bfloat16: two bytes per number, with 8 significant bits and the range of float32."""

from attcli.storage.floats import Floats


def make() -> Floats:
    """Two bytes per number."""
    return Floats("bfloat16", 16)
