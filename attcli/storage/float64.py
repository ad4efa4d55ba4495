"""float64: eight bytes per number, for checks of the mathematics together with `distill.precision=float64`."""

import torch

from attcli.storage.float32 import Floats


def make() -> Floats:
    """Eight bytes per number."""
    return Floats(torch.float64)
