"""What `python -m benchmarks.coded` compares differs in what a set is made of, and in nothing else."""

from functools import cache

import pytest

from attcli.settings import layers, resolve
from benchmarks.coded import SHARED, VARIANTS

MADE_OF = {"distill.parameterisation", "distill.storage", "distill.label_storage", "distill.code_bits"}


@cache
def settings_of(variant: str) -> dict[str, object]:
    return layers.values_of(resolve({**SHARED, **VARIANTS[variant]}, ignore_params=True).settings)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_recipe_adds_nothing_to_a_variant(variant: str) -> None:
    """A recipe of its method, published or tuned for other work, must not set one row apart from the others."""
    own, plain = settings_of(variant), settings_of("pixels")
    differs = {name for name in own if own[name] != plain[name]}
    assert differs <= MADE_OF | VARIANTS[variant].keys() | VARIANTS["pixels"].keys()


@pytest.mark.parametrize("variant", [name for name in VARIANTS if " bits" in name])
def test_a_row_has_the_bits_of_its_name(variant: str) -> None:
    assert f"{settings_of(variant)['distill.code_bits']} bits" in variant
