"""Every storage gives back what it says that it keeps, in as many bytes as it says."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attcli import registry, storage
from attcli.storage import Storage, codes

NOT_STORAGES = ("__init__", *registry.KINDS["storage"].others)
NAMES = sorted(path.stem for path in Path(storage.__file__).parent.glob("*.py") if path.stem not in NOT_STORAGES)
CODES = [{"code_bits": bits, "code_groups": groups} for bits in range(1, 7) for groups in (0, 1, 7)]
CASES: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in NAMES] + [("codes", options) for options in CODES]
SHAPES = [(6, 3, 8, 8), (4, 3, 20), (5, 1, 7, 7)]


def made(name: str, **options: Any) -> Storage:
    """A storage with its default options, or these."""
    defaults = {key: field.default for key, field in registry.options("storage", name).items()}
    return storage.load(name, **{**defaults, **options})


def numbers(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Normally distributed numbers, some units of larger ones than others."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x * torch.linspace(0.5, 4, shape[0], dtype=dtype).view(-1, *[1] * (len(shape) - 1))


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_packed_comes_back_as_rounded_bit_for_bit(
    name: str, options: dict[str, Any], dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    kept, x = made(name, **options), numbers(shape, dtype)
    scales = kept.fit(x, None)
    rounded = kept.rounded(x, scales)
    packed = kept.pack(x, scales)
    assert rounded.dtype == dtype
    assert torch.equal(kept.unpack(packed, shape).to(dtype), rounded)
    assert torch.equal(kept.rounded(rounded, scales), rounded)
    moved = kept.rounded(x + 0.37, scales)  # numbers that the scales were not fitted to
    assert torch.equal(kept.unpack(kept.pack(x + 0.37, scales), shape).to(dtype), moved)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_packed_arrays_have_the_counted_bytes(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    kept = made(name, **options)
    x = numbers(shape)
    packed = kept.pack(x, kept.fit(x, None))
    size = sum(array.nbytes for array in packed.values())
    if name == "codes":
        raw = -(-x.numel() * options.get("code_bits", 4) // 8)
        assert packed["codes"].nbytes <= raw
        size += raw - packed["codes"].nbytes
    assert size == kept.size(shape)
    assert kept.bits(shape[1:]) * shape[0] <= 8 * kept.size(shape)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_scales_come_back_from_the_file(name: str, options: dict[str, Any]) -> None:
    kept, x = made(name, **options), numbers((6, 3, 8, 8))
    scales = kept.fit(x, None)
    again = kept.scales_of(kept.pack(x, scales), (6, 3, 8, 8))
    assert again.keys() == scales.keys()
    assert all(torch.equal(again[part], scales[part]) for part in scales)
    assert torch.equal(kept.rounded(kept.rounded(x, scales), again), kept.rounded(x, scales)), (
        "nothing is rounded twice"
    )


@pytest.mark.parametrize(("name", "options"), CASES)
def test_rounding_moves_a_number_by_half_a_step_at_most(name: str, options: dict[str, Any]) -> None:
    kept, x = made(name, **options), numbers((6, 3, 8, 8))
    scales = kept.fit(x, None)
    moved = (kept.rounded(x, scales) - x).abs()
    if not scales:
        assert bool((moved <= x.abs() * 2**-8).all())  # bfloat16, the coarsest, keeps eight bits
        return
    widest = float(scales["scale"][1]) if "scale" in scales else float(scales["step"].max())
    assert float(moved.max()) <= widest * 0.51 + 2e-3 * float(x.abs().max())  # ends in float16 are off a little
    assert not bool(kept.beyond(x, scales).any())


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
@pytest.mark.parametrize("groups", [0, 1, 7, 64])
@pytest.mark.parametrize("limits", [None, (0.0, 1.0)])
@pytest.mark.parametrize("offset", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("width", [0.0, 1e-4, 1e-3, 0.2])
def test_grids_reach_all_that_they_were_fitted_to(
    bits: int, groups: int, limits: tuple[float, float] | None, offset: float, width: float
) -> None:
    kept = made("codes", code_bits=bits, code_groups=groups)
    x = offset + width * torch.rand((4, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    x[0, :, :3, :3] = torch.linspace(0, 1, 27).view(3, 3, 3)  # one patch of another range than all the others
    scales = kept.fit(x, limits)
    assert not bool(kept.beyond(x, scales).any())
    if groups == 0:
        flat = x + 0.9 / 255 / 2 * (2**bits - 1) * (1 if offset < 0.5 else -1) * (width < 1e-3)
        reached = kept.beyond(flat, scales)
        assert float((reached == 0).float().mean()) > 0.3  # a flat patch has room to change in


@pytest.mark.parametrize("name", ["uint8", "codes"])
def test_only_what_the_grid_reaches_is_inside(name: str) -> None:
    kept, x = made(name), numbers((6, 3, 8, 8))
    scales = kept.fit(x, None)
    far = x + 1000.0
    assert bool((kept.beyond(far, scales) == 1).all())
    assert bool((kept.beyond(x - 1000.0, scales) == -1).all())
    assert torch.equal(kept.rounded(far, scales), kept.rounded(far + 1000, scales))


def test_what_float16_cannot_hold_becomes_its_largest_number() -> None:
    kept, x = made("float16"), torch.tensor([[1e6, -1e6, 1.0]])
    assert kept.rounded(x, {}).tolist() == [[65504.0, -65504.0, 1.0]]
    assert kept.beyond(x, {}).tolist() == [[1, -1, 0]]


def test_numbers_with_limits_keep_their_grid() -> None:
    kept = made("uint8")
    bytes_ = torch.arange(256).view(1, 1, 16, 16) / 255
    scales = kept.fit(bytes_ * 0.3, (0.0, 1.0))
    assert kept.pack(bytes_, scales)["codes"].ravel().tolist() == list(range(256))
    assert torch.allclose(kept.rounded(bytes_, scales), bytes_, atol=1e-7)


@pytest.mark.parametrize("name", ["uint8", "codes"])
def test_scales_are_fitted_anew_until_they_are_fixed(name: str) -> None:
    kept = made(name, scales_every=20, scales_until=60)
    assert [iteration for iteration in range(1, 200) if kept.refits(iteration)] == [20, 40, 60]


def test_patches_with_similar_ranges_share_a_group() -> None:
    """Two kinds of patches, narrow and wide: with two groups each kind has its own grid, which holds all of it."""
    x = torch.rand((2, 3, 10, 10), generator=torch.Generator().manual_seed(0))
    x[:, :, 5:, :5] *= 50
    kept = made("codes", code_bits=2, code_groups=2)
    scales = kept.fit(x, None)
    group = scales["group"]
    assert group[0].tolist() == group[1].tolist()
    assert group[0, 0] == group[0, 1] == group[0, 3] != group[0, 2]
    narrow, wide = int(group[0, 0]), int(group[0, 2])
    assert float(scales["low"][narrow] + 3 * scales["step"][narrow]) == pytest.approx(1, abs=0.02)
    assert float(scales["low"][wide] + 3 * scales["step"][wide]) == pytest.approx(50, rel=0.02)


def test_k_means_finds_clusters_that_lie_apart() -> None:
    generator = torch.Generator().manual_seed(3)
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [9.0, 9.0]])
    true = torch.randint(4, (400,), generator=generator)
    points = centres[true] + 0.2 * torch.randn(400, 2, generator=generator)
    group = codes.clustered(points, 4)
    pairs = {(int(a), int(b)) for a, b in zip(true, group, strict=True)}
    assert len(pairs) == 4
    assert torch.equal(group, codes.clustered(points, 4))
    assert int(codes.clustered(torch.zeros(5, 2), 4).max()) == 0  # equal points need one


@pytest.mark.parametrize("bits", range(1, 8))
def test_bits_are_packed_and_unpacked(bits: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, 101)
    packed = codes.packed_bits(values, bits)
    assert packed.nbytes == -(-101 * bits // 8)
    assert np.array_equal(codes.unpacked_bits(packed, bits, 101), values)


def test_bits_go_lowest_first_without_gaps() -> None:
    assert codes.packed_bits(np.array([1, 2, 3, 0]), 2).tolist() == [0b10011100]


def damaged(packed: dict[str, Any]) -> list[dict[str, Any]]:
    """Arrays that are not what they should be, one thing wrong with each."""
    wrong = [{**packed, name: array[..., :-1]} for name, array in packed.items() if name != "codes" or array.ndim > 1]
    wrong += [{**packed, name: array.astype(np.float64)} for name, array in packed.items() if array.dtype != "float64"]
    return wrong + [{key: x for key, x in packed.items() if key != name} for name in packed]


@pytest.mark.parametrize("name", NAMES)
def test_arrays_that_do_not_fit_are_refused(name: str) -> None:
    kept, x = made(name), numbers((6, 3, 8, 8))
    packed = kept.pack(x, kept.fit(x, None))
    for arrays in damaged(packed):
        with pytest.raises((ValueError, KeyError)):
            kept.unpack(arrays, (6, 3, 8, 8))
    with pytest.raises((ValueError, KeyError)):
        kept.unpack(packed, (7, 3, 8, 8))


def test_hostile_codes_are_refused_before_memory_is_spent() -> None:
    kept, x = made("codes"), torch.zeros((6, 3, 8, 8))
    packed = kept.pack(x, kept.fit(x, None))
    raw = 6 * 3 * 64 * 4 // 8
    bomb = np.frombuffer(zlib.compress(bytes(10**7), 9), np.uint8)
    for array in (bomb, bomb[:100], packed["codes"][:-2], np.zeros(raw + 1, np.uint8)):
        with pytest.raises(ValueError, match="codes"):
            kept.unpack({**packed, "codes": array}, (6, 3, 8, 8))


def test_bytes_per_number() -> None:
    sizes = {name: made(name).bits((1, 10, 10)) for name in NAMES if name != "codes"}
    assert sizes == {"float32": 3200, "float64": 6400, "float16": 1600, "bfloat16": 1600, "uint8": 800}
    assert made("codes", code_bits=2, code_patch=5, code_groups=64).bits((3, 10, 10)) == 2 * 300 + 4 * 6
