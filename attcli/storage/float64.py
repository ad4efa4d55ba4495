"""float64: eight bytes per number, for checks of the mathematics together with `distill.precision=float64`."""

from attcli.storage.float32 import Floats


def make() -> Floats:
    """Eight bytes per number."""
    import torch

    return Floats(torch.float64)
