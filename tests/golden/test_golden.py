"""Every stage computes what it computed when its ALGORITHM number was set.

Finished work is found by that number, so a change of the code that alters results without raising it would leave every
user, and DVC, with the old results for new ones.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attcli import augment, registry
from attcli.methods import Method
from attcli.stages.identity import ALGORITHM
from tests.golden import runs

GOLDEN = Path(__file__).with_name("golden.npz")
TOLERANCE = 1e-9
STORED_IN_FLOAT32 = 2e-6
NAMES = [f"{stage}/{name}" for stage, name, _ in runs.cases(Path())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


def differences(kept: runs.Arrays, computed: runs.Arrays) -> list[str]:
    """The names of arrays that are not the same: to 1e-9 of their largest value in float64."""
    differing = sorted(kept.keys() ^ computed.keys())
    for name in sorted(kept.keys() & computed.keys()):
        a, b = kept[name], computed[name]
        in_float32 = "float32" in (str(a.dtype), name.rpartition("-")[2])
        tolerance = STORED_IN_FLOAT32 if in_float32 else TOLERANCE
        close = a.shape == b.shape and np.abs(a - b).max() <= tolerance * max(1.0, np.abs(a).max())
        differing += [] if close else [name]
    return differing


@pytest.mark.cpu
@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_this_algorithm_number(name: str, folder: Path) -> None:
    numbers, kept = runs.read(GOLDEN)
    stage = name.split("/", maxsplit=1)[0]
    compute: Callable[[], runs.Arrays] = {f"{s}/{n}": function for s, n, function in runs.cases(folder)}[name]
    differing = differences(kept.get(name, {}), compute())
    renew = "renew the arrays with `python -m tests.golden`"
    if numbers[stage] != ALGORITHM[stage]:
        pytest.fail(f"ALGORITHM[{stage!r}] is {ALGORITHM[stage]}, the arrays are of {numbers[stage]}; {renew}")
    if differing:
        pytest.fail(
            f"{name}: {', '.join(differing)} changed while ALGORITHM[{stage!r}] is still {ALGORITHM[stage]}. If that "
            f"is meant, raise it in attcli/stages/identity.py (or an objective's `version`), so that old work is not "
            f"taken for new, and {renew}"
        )


def test_every_method_trainer_and_engine_has_a_golden_run() -> None:
    groups = (runs.TRAINERS, runs.DISTILLATIONS, runs.CODED)
    settings = [changes for group in groups for changes in group.values()]
    used = {name: {str(changes.get(name)) for changes in settings} for name in ("distill.method", "buffer.trainer")}
    used["distill.method"] = {part for joined in used["distill.method"] for part in joined.split("+")}
    assert set(registry.names("method")) <= used["distill.method"]
    assert set(registry.names("trainer")) <= used["buffer.trainer"]
    assert "unroll" in {str(changes.get("distill.engine")) for changes in settings}  # tesla is a method as well
    axes = {"trainer", "select", "window", "labels", "init", "max_loss", "engine", "parameterisation", "storage"}
    assert set(Method.__dataclass_fields__) == {*axes, "objective", "also"}


@pytest.mark.parametrize("operation", sorted(augment.OPERATIONS))
def test_a_changed_augmentation_is_noticed(operation: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(augment.OPERATIONS, operation, lambda x, uniform: x * 0.5)
    _, kept = runs.read(GOLDEN)
    computed = {f"{stage}/{name}": function for stage, name, function in runs.cases(folder / operation)}
    for name in ("buffer/sgd", "evaluate/networks-exact"):
        assert "parameters" in differences(kept[name], computed[name]())
