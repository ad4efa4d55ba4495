"""Files that are false, hostile or damaged: told in one line, never believed, never the end of the road."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from attcli.errors import UserError
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import artefact, dataset, experts, history, synthetic
from tests.conftest import settings_in
from tests.stages.observed import logged

REFUSED = r"damaged or cut short|is no file of attcli"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run."""
    run = Run(settings_in(tmp_path_factory.mktemp("made")))
    pipeline.distill(run)
    return run


def files_of(run: Run) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """One file of each kind, and what reads it."""
    return {
        "dataset": (run.dataset, dataset.read),
        "expert": (experts.path(run.experts, 0), experts.read),
        "synthetic": (run.synthetic, synthetic.read),
        "snapshot": (synthetic.snapshots(run.snapshots)[0], synthetic.read_snapshot),
        "history": (run.history, lambda path: artefact.read(path, history.KIND, history.MAKER)),
    }


KINDS = ("dataset", "expert", "synthetic", "snapshot", "history")


@pytest.mark.parametrize("kind", KINDS)
def test_flips_and_cuts_are_noticed_everywhere(made: Run, kind: str, tmp_path: Path) -> None:
    source, read = files_of(made)[kind]
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
def test_a_header_that_says_something_impossible_is_refused(made: Run, changes: dict, tmp_path: Path) -> None:
    rewritten(made.synthetic, tmp_path / "set.h5", "synthetic", synthetic.MAKER, **changes)
    with pytest.raises(UserError, match=REFUSED) as told:
        synthetic.read(tmp_path / "set.h5")
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


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
def test_arrays_that_cannot_be_right_are_refused(made: Run, name: str, change: Callable, tmp_path: Path) -> None:
    header, arrays = artefact.read(made.synthetic, "synthetic", synthetic.MAKER)
    artefact.write(tmp_path / "set.h5", header, {**arrays, name: np.asarray(change(arrays[name]))})
    with pytest.raises(UserError, match="damaged or cut short"):
        synthetic.read(tmp_path / "set.h5")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_one_of_its_arrays_is_refused(made: Run, kind: str, tmp_path: Path) -> None:
    source, read = files_of(made)[kind]
    header, arrays = artefact.read(source, kind, "maker", covered=("parameters",))
    optional = {"dataset": {"normaliser/std"}, "history": set(arrays) - {"iteration", "step", "l1", "l2"}}
    for name in arrays.keys() - optional.get(kind, set()):
        if name.startswith("normaliser") and kind != "dataset":
            continue
        artefact.write(tmp_path / "part.h5", header, {n: x for n, x in arrays.items() if n != name})
        with pytest.raises(UserError, match=r"damaged or cut short"):
            read(tmp_path / "part.h5")


def hostile(tmp_path: Path, made: Run, change: Callable[[h5py.File], None]) -> Path:
    """A set of the first schema (which has no seal) after a change."""
    target = tmp_path / "set.h5"
    target.write_bytes(Path(__file__).parents[1].joinpath("store", "schema1-synthetic.h5").read_bytes())
    with h5py.File(target, "r+") as file:
        change(file)
    return target


def _external(file: h5py.File) -> None:
    del file["images"]
    Path(file.filename).with_name("secret.bin").write_bytes(bytes(2560))
    file.create_dataset("images", (10, 1, 8, 8), "f4", external=[("secret.bin", 0, 2560)])


def _virtual(file: h5py.File) -> None:
    del file["images"]
    layout = h5py.VirtualLayout((10, 1, 8, 8), "f4")
    layout[...] = h5py.VirtualSource(file.filename, "ema", (10, 1, 8, 8))
    file.create_virtual_dataset("images", layout)


def _soft(file: h5py.File) -> None:
    del file["images"]
    file["images"] = h5py.SoftLink("/ema")


def _outside(file: h5py.File) -> None:
    del file["images"]
    file["images"] = h5py.ExternalLink("other.h5", "/ema")


def _bomb(file: h5py.File) -> None:
    del file["images"]
    file.create_dataset("images", (10, 1, 8, 8), "f4", chunks=(10, 1, 8, 8), compression="gzip")


def _huge(file: h5py.File) -> None:
    del file["images"]
    file.create_dataset("images", (300_000, 1, 64, 64), "f4", chunks=(1, 1, 64, 64))


def _nested(file: h5py.File) -> None:
    file.create_group("/".join("a" * 3000))


def _text(file: h5py.File) -> None:
    del file["images"]
    file["images"] = "text"


def _attribute(file: h5py.File) -> None:
    file.attrs["about"] = 5


def _unknown(file: h5py.File) -> None:
    file["more"] = np.zeros(3)


@pytest.mark.parametrize(
    "change", [_external, _virtual, _soft, _outside, _bomb, _huge, _nested, _text, _attribute, _unknown]
)
def test_hdf5_that_reaches_outside_or_eats_memory_is_refused(made: Run, change: Callable, tmp_path: Path) -> None:
    target = hostile(tmp_path, made, change)
    with pytest.raises(UserError, match="damaged or cut short"):
        synthetic.read(target)


def test_what_is_no_file_is_told_as_such(tmp_path: Path) -> None:
    pipe, text, picture = tmp_path / "pipe", tmp_path / "notes.txt", tmp_path / "set.pt"
    os.mkfifo(pipe)
    text.write_text("hello")
    picture.write_bytes(b"PK\x03\x04" + bytes(100))
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["x"] = np.zeros(3)
    for path in (pipe, text, picture, foreign):
        with pytest.raises(UserError, match="is no file of attcli") as told:
            synthetic.read(path)
        assert "delete" not in str(told.value)
    with pytest.raises(UserError, match=r"is a folder; name the file in it"):
        synthetic.read(tmp_path)


def spoil(path: Path) -> None:
    """Change a byte in the middle, in place, as a bad disk does: in all its hard links."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 255]))


def test_a_damaged_expert_is_replaced_when_one_follows_the_message(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path, distill__init="correct"))  # every expert is read to its end
    pipeline.buffer(run)
    whole = experts.path(run.experts, 1).read_bytes()
    spoil(experts.path(run.experts, 1))
    with pytest.raises(UserError, match=r"expert-0001\.h5 is damaged.*delete it and run `attcli buffer`"):
        experts.read(experts.path(run.experts, 1))
    experts.path(run.experts, 1).unlink()
    with logged() as lines:
        pipeline.buffer(run)
    assert any("is damaged" in line and "made anew" in line for line in lines)
    assert experts.path(run.experts, 1).read_bytes() == whole


def test_a_damaged_dataset_is_replaced_when_one_follows_the_message(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path))
    pipeline.prepare(run)
    whole = run.dataset.read_bytes()
    spoil(run.dataset)
    with pytest.raises(UserError, match=r"dataset\.h5 is damaged.*delete it and run `attcli prepare`"):
        pipeline.prepare(run)
    run.dataset.unlink()
    pipeline.prepare(run)
    assert run.dataset.read_bytes() == whole


def test_a_damaged_snapshot_is_no_end_of_the_road(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path))
    pipeline.distill(run)
    whole = run.synthetic.read_bytes()
    snapshots = synthetic.snapshots(run.snapshots)
    for file in snapshots[1:]:
        spoil(file)
    for file in snapshots:
        file.unlink()
    with logged() as lines:
        pipeline.distill(run)
    assert sum("made anew" in line for line in lines) == 2
    assert run.synthetic.read_bytes() == whole
    torch.testing.assert_close(synthetic.read_snapshot(synthetic.snapshots(run.snapshots)[1]).iteration, 4)


def test_a_deleted_work_folder_does_not_shorten_the_history(tmp_path: Path) -> None:
    import shutil

    run = Run(settings_in(tmp_path))
    pipeline.distill(run)
    shutil.rmtree(run.settings.runtime.work_dir)
    pipeline.distill(Run(settings_in(tmp_path, distill__iterations=8)))
    with h5py.File(run.history) as file:
        assert file["iteration"][()].tolist() == list(range(8))


@pytest.mark.parametrize("stage", ["prepare", "buffer", "distill"])
def test_fresh_ignores_what_is_kept(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from attcli.stages import buffer, distill, prepare

    made = {"prepare": (prepare, "_make"), "buffer": (buffer, "train_epoch"), "distill": (distill.Loop, "iterate")}
    run = Run(settings_in(tmp_path))
    pipeline.distill(run)
    whole = run.synthetic.read_bytes()
    calls: list[str] = []
    for name, (place, function) in made.items():
        real = getattr(place, function)

        def counted(*inputs: object, name: str = name, real: Callable = real, **options: object) -> object:
            calls.append(name)
            return real(*inputs, **options)

        monkeypatch.setattr(place, function, counted)
    pipeline.distill(run)
    assert calls == []
    getattr(pipeline, stage)(Run(settings_in(tmp_path), fresh=stage))
    assert set(calls) == {stage}
    pipeline.distill(run)
    assert run.synthetic.read_bytes() == whole
