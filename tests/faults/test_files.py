"""Files that are false or damaged: told in one line, never believed."""

import json
import re
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attcli.errors import UserError
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import artefact, dataset, experts, history, normaliser, states, synthetic
from tests.conftest import Cli, settings_in

REFUSED = r"damaged or cut short|is no file of attcli"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run."""
    run = Run(settings_in(tmp_path_factory.mktemp("finished")))
    pipeline.distill(run)
    return run


def files_of(run: Run) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """One file of each kind, and what reads it."""
    data = dataset.read(run.dataset)
    return {
        "dataset": (run.dataset, dataset.read),
        "expert": (experts.path(run.experts, 0), experts.read),
        "synthetic": (run.synthetic, synthetic.read),
        "snapshot": (states.snapshots(run.snapshots)[0], lambda path: states.read(path, data.normaliser)),
        "normaliser": (run.normaliser, lambda path: normaliser.read(path, data.about["normaliser"]["sha256"])),
        "history": (run.history, lambda path: artefact.read(path, history.KIND, history.MAKER)),
    }


KINDS = ("dataset", "expert", "synthetic", "snapshot", "history", "normaliser")


@pytest.mark.parametrize("kind", KINDS)
def test_flips_and_cuts_are_noticed_everywhere(finished: Run, kind: str, tmp_path: Path) -> None:
    source, read = files_of(finished)[kind]
    whole, copy = source.read_bytes(), tmp_path / source.name
    random = np.random.default_rng(0)
    for position in random.integers(0, len(whole), 120):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(random.integers(8))
        copy.write_bytes(changed)
        with pytest.raises(UserError, match=REFUSED):
            read(copy)
    for length in random.integers(0, len(whole), 30):
        copy.write_bytes(whole[:length])
        with pytest.raises(UserError, match=REFUSED):
            read(copy)
    for first in random.integers(0, len(whole) - 64, 20):  # zeroed blocks made HDF5 itself crash
        copy.write_bytes(whole[:first] + bytes(64) + whole[first + 64 :])
        if copy.read_bytes() != whole:
            with pytest.raises(UserError, match=REFUSED):
                read(copy)
    copy.write_bytes(whole)
    read(copy)


def rewritten(source: Path, target: Path, kind: str, maker: str, **changes: object) -> None:
    """A copy with a right seal whose header says something else; a dot leads into a mapping, ... removes a fact."""
    header, arrays = artefact.read(source, kind, maker, covered=("parameters",))
    about = json.loads(json.dumps(header.about))
    for name, value in changes.items():
        *path, last = name.split("__")
        place = about
        for step in path:
            place = place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    artefact.write(target, artefact.Header(kind, header.fingerprint, header.settings, about, header.versions), arrays)


FALSE = [
    {"ipc": "one"},
    {"ipc": 0},
    {"images_per_class": 2},
    {"ipc": 10**9},
    {"ipc": ...},
    {"resolution": -8},
    {"resolution": 10**7},
    {"resolution": "8"},
    {"channels": 3},
    {"channels": ...},
    {"classes": []},
    {"classes": "0123456789"},
    {"classes": ["a"] * 9},
    {"network__width": -1},
    {"network__width": 10**6},
    {"network__depth": 5000},
    {"network__depth": -3},
    {"network": ...},
    {"network": "convnet"},
    {"protocol": ...},
    {"protocol": None},
    {"iteration": -1},
    {"counts": {"skipped": "many"}},
    {"normaliser__kind": "none"},
    {"normaliser__eps": "small"},
    {"coding": {"parameterisation": {"name": "../../x"}, "storage": {"name": "float32"}}},
    {"dataset_sha256": 7},
    {"value_scale": 0},
    {"seed": None},
    {"value_scale": "0.0039"},
    {"network__depth": "3"},
    {"method": ...},
]


@pytest.mark.parametrize("changes", FALSE, ids=str)
def test_a_header_that_says_something_impossible_is_refused(finished: Run, changes: dict, tmp_path: Path) -> None:
    rewritten(finished.synthetic, tmp_path / "set.h5", "synthetic", synthetic.MAKER, **changes)
    with pytest.raises(UserError, match=REFUSED) as told:
        synthetic.read(tmp_path / "set.h5")
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


@pytest.mark.parametrize(
    "changes",
    [
        {"network__width": 65_536},  # three blocks: 86 billion parameters
        {"network__width": 4_096, "network__depth": 90},
        {"network__width": 65_536, "network__depth": 100},
    ],
    ids=str,
)
def test_a_network_of_too_many_parameters_is_refused_before_it_is_made(
    finished: Run, changes: dict, tmp_path: Path
) -> None:
    rewritten(finished.synthetic, tmp_path / "set.h5", "synthetic", synthetic.MAKER, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"its header is impossible: network: \d+ parameters are too many"):
        synthetic.read(tmp_path / "set.h5")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_a_wide_network_that_can_be_meant_is_let_through(finished: Run, tmp_path: Path) -> None:
    rewritten(finished.synthetic, tmp_path / "set.h5", "synthetic", synthetic.MAKER, network__width=4_096)
    assert synthetic.read(tmp_path / "set.h5").about["network"]["width"] == 4_096


def test_a_zeroed_block_in_a_set_that_is_scored_by_name_is_one_line(finished: Run, tmp_path: Path, cli: Cli) -> None:
    whole, copy = finished.synthetic.read_bytes(), tmp_path / "my-set.h5"
    for first in (0, 512, len(whole) // 2, len(whole) - 600):
        copy.write_bytes(whole[:first] + bytes(512) + whole[first + 512 :])
        told = cli("evaluate", str(copy), "--artifacts", str(finished.settings.runtime.artifacts), code=2)
        lines = [line for line in told.splitlines() if line.startswith("attcli:")]
        assert len(lines) == 1
        assert re.search(REFUSED, lines[0])
        assert "Traceback" not in told


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("lr", lambda x: x * np.nan),
        ("lr", lambda x: x * np.inf),
        ("lr", lambda x: x * 0),
        ("lr", lambda x: x * -1),
        ("ema/images/values", lambda x: np.where(np.arange(len(x))[:, None, None, None] == 3, np.nan, x)),
        ("synthetic/images/values", lambda x: x / 0.0),
        ("synthetic/images/values", lambda x: x[:9]),
        ("labels", lambda x: x + 1),
        ("labels", lambda x: x - 1),
        ("labels", lambda x: x[:9]),
        ("labels", lambda x: np.full((10, 10), np.nan, np.float32)),
        ("normaliser/std", lambda x: x * 0),
        ("normaliser/mean", lambda x: x[:0]),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_arrays_that_cannot_be_right_are_refused(finished: Run, name: str, change: Callable, tmp_path: Path) -> None:
    header, arrays = artefact.read(finished.synthetic, "synthetic", synthetic.MAKER)
    artefact.write(tmp_path / "set.h5", header, {**arrays, name: np.asarray(change(arrays[name]))})
    with pytest.raises(UserError, match="damaged or cut short"):
        synthetic.read(tmp_path / "set.h5")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_one_of_its_arrays_is_refused(finished: Run, kind: str, tmp_path: Path) -> None:
    source, read = files_of(finished)[kind]
    header, arrays = artefact.read(source, kind, "maker", covered=("parameters",))
    optional = {"dataset": {"normaliser/std"}, "history": set(arrays) - {"iteration", "step", "l1", "l2"}}
    for name in arrays.keys() - optional.get(kind, set()):
        if name.startswith("normaliser") and kind != "dataset":
            continue
        artefact.write(tmp_path / "part.h5", header, {n: x for n, x in arrays.items() if n != name})
        with pytest.raises(UserError, match=r"damaged or cut short"):
            read(tmp_path / "part.h5")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_whose_arrays_have_other_dimensions_is_refused(finished: Run, kind: str, tmp_path: Path) -> None:
    source, read = files_of(finished)[kind]
    header, arrays = artefact.read(source, kind, "maker", covered=("parameters",))
    for name, array in arrays.items():
        if name.startswith("moments/"):  # whose form only their optimiser knows
            continue
        scalar = np.zeros((), array.dtype)
        for other in (scalar, array[..., None]) if array.ndim else (array[None, None].repeat(2, 0),):
            artefact.write(tmp_path / "part.h5", header, {**arrays, name: other})
            with pytest.raises(UserError, match=r"damaged or cut short"):
                read(tmp_path / "part.h5")


def test_classes_in_a_snapshot_are_whole_numbers_of_64_bits(finished: Run, tmp_path: Path) -> None:
    source, _ = files_of(finished)["snapshot"]
    header, arrays = artefact.read(source, states.KIND, "maker")
    artefact.write(
        tmp_path / "part.h5", header, {**arrays, "constants/labels": arrays["constants/labels"].astype("i2")}
    )
    with pytest.raises(UserError, match="its labels have another shape or type"):
        synthetic.read(tmp_path / "part.h5", kind=None)
