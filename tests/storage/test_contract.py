"""Every storage gives back what it says that it keeps, and lets gradients through."""

from pathlib import Path

import numpy as np
import pytest
import torch

from attcli import storage

NAMES = sorted(path.stem for path in Path(storage.__file__).parent.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_packed_comes_back_as_rounded_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    kept = storage.load(name)
    numbers = torch.randn((6, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(dtype) * 3
    rounded = kept.rounded(numbers)
    assert rounded.dtype == dtype
    assert torch.equal(kept.unpack(kept.pack(numbers)).to(dtype), rounded)
    assert torch.equal(kept.rounded(rounded), rounded)
    assert all(isinstance(array, np.ndarray) for array in kept.pack(numbers).values())


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_passes_straight_through(name: str) -> None:
    kept = storage.load(name)
    numbers = torch.randn((4, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.randn((4, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    passed = storage.straight_through(kept, numbers)
    assert torch.allclose(passed, kept.rounded(numbers.detach()), rtol=0, atol=1e-12)
    (passed * weights).sum().backward()
    assert torch.equal(numbers.grad, weights)


def test_bytes_per_number() -> None:
    numbers = torch.zeros(10)
    assert {name: storage.load(name).pack(numbers)["values"].nbytes for name in ("float32", "float64")} == {
        "float32": 40,
        "float64": 80,
    }
