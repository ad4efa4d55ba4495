"""Cases of artefacts: headers and arrays that are sealed as attcli seals them, and files of any bytes."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import attcli
from attcli import interchange
from attcli.errors import UserError
from attcli.interchange import packing
from attcli.stages import diagnose, exporting
from attcli.stages.settings_of_a_set import of_set
from attcli.store import artefact, dataset, experts, hdf5, history, normaliser, states, synthetic
from tests.fuzz.bases import Bases
from tests.fuzz.values import changed, damaged

KINDS = {
    "dataset": dataset.KIND,
    "expert": experts.KIND,
    "compact expert": experts.KIND,
    "set": synthetic.KIND,
    "snapshot": states.KIND,
    "history": history.KIND,
    "normaliser": normaliser.KIND,
    "multiformation": synthetic.KIND,
    "frequency": synthetic.KIND,
}
OF_SETS = ("set", "snapshot", "multiformation", "frequency")


def read(name: str, path: Path, folder: Path) -> None:
    """All that attcli does with a file of that kind: it is read, looked at, and handed on."""
    if name == "dataset":
        dataset.read(path)
        dataset.facts(path)
    elif KINDS[name] == experts.KIND:
        experts.read(path)
        beside = folder / "of-experts"
        beside.mkdir(exist_ok=True)
        shutil.copyfile(path, experts.path(beside, 0))
        opened = experts.open_experts(beside, 1)
        opened.rows(0, (0, opened.epochs))
        opened.close()
        exporting.run(beside, "released-experts", folder / "exported", force=True)
    elif name == "history":
        diagnose.read(path, None, [1], 2)
    elif name == "normaliser":
        normaliser.read(path, artefact.header(path, normaliser.KIND, "").about["normaliser"]["sha256"])
    else:
        with suppress(UserError):
            of_set(path)
        attcli.load(path)
        _export(path, folder)


def _export(path: Path, folder: Path) -> None:
    """What each form says of a set before it writes it, and what it writes without pictures."""
    whole = packing.whole_in(path)
    for form in ("released", "safetensors", "png", "ddranking"):
        module: Any = interchange.load(form)
        module.losses(whole, "synthetic")
        module.files(folder / "exported", whole)
    interchange.load("safetensors").write(folder / "exported", whole, "synthetic")
    interchange.load("huggingface").card(whole, soft=False)
    interchange.load("ddranking").configuration(whole)


def _content(path: Path, name: str) -> tuple[artefact.Header, artefact.Arrays]:
    return artefact.read(path, KINDS[name], "", covered=("parameters",))


_kept: dict[Path, tuple[artefact.Header, artefact.Arrays]] = {}


def _base(bases: Bases, name: str) -> tuple[artefact.Header, artefact.Arrays]:
    path = bases.artefacts[name]
    if path not in _kept:
        _kept[path] = _content(path, name)
    return _kept[path]


def _write(path: Path, header: artefact.Header, arrays: Any) -> None:
    """A file with a seal, as attcli writes it, whatever it says."""
    rows = {"parameters": arrays["parameters"]} if header.kind == "expert" and "parameters" in arrays else {}
    others = {name: array for name, array in arrays.items() if name not in rows}
    by_row = {name: list(array) for name, array in rows.items() if array.ndim and len(array)}
    artefact.write(path, header, others if by_row or not rows else arrays, by_row)


class Drawn:
    """Changes of a header that are drawn once its base is known: hypothesis wants the strategies beforehand."""

    def __init__(self, bases: Bases) -> None:
        self.headers = st.sampled_from(sorted(bases.artefacts)).flatmap(lambda name: self._header(bases, name))
        self.arrays = st.sampled_from(sorted(bases.artefacts)).flatmap(lambda name: self._array(bases, name))
        self.files = st.sampled_from(sorted(bases.artefacts)).flatmap(lambda name: self._file(bases, name))

    @staticmethod
    def _header(bases: Bases, name: str) -> Any:
        header = _base(bases, name)[0]
        about, settings = st.just(header.about), st.just(header.settings)
        return st.tuples(
            st.just(name),
            st.one_of(changed(header.about), changed(header.about), about),
            st.one_of(settings, changed(header.settings)),
            st.sampled_from([header.versions, header.versions, {"attcli": "\x1b[2J"}, {"attcli": [1]}, [], "x"]),
        )

    @staticmethod
    def _array(bases: Bases, name: str) -> Any:
        arrays = _base(bases, name)[1]
        how = st.sampled_from(
            ["drop", "scalar", "empty", "shorter", "longer", "flat", "more", "f8", "i2", "u1", "nan", "zero", "huge"]
        )
        change = st.tuples(st.sampled_from(sorted(arrays)), how)
        return st.tuples(st.just(name), st.lists(change, min_size=1, max_size=2), st.integers(0, 2**31))

    @staticmethod
    def _file(bases: Bases, name: str) -> Any:
        data = bases.artefacts[name].read_bytes()
        return st.tuples(st.just(name), damaged(data), st.booleans())


def of_headers(case: Any, folder: Path, bases: Bases) -> None:
    """A sealed file whose header says other things."""
    name, about, settings, versions = case
    header, arrays = _base(bases, name)
    path = folder / f"{name}.h5"
    _write(path, artefact.Header(header.kind, header.fingerprint, settings, about, versions), arrays)
    read(name, path, folder)


def of_arrays(case: Any, folder: Path, bases: Bases) -> None:
    """A sealed file whose arrays are others than its header says."""
    name, changes, seed = case
    header, kept = _base(bases, name)
    arrays = dict(kept)
    for key, how in changes:
        if key in arrays:
            arrays[key] = _changed_array(arrays[key], how, seed)
            if arrays[key] is None:
                del arrays[key]
    path = folder / f"{name}.h5"
    _write(path, header, arrays)
    read(name, path, folder)


def _changed_array(array: Any, how: str, seed: int) -> Any:
    simple = {
        "drop": lambda: None,
        "scalar": lambda: np.zeros((), array.dtype),
        "empty": lambda: np.zeros((0, *array.shape[1:]), array.dtype),
        "shorter": lambda: array[:-1] if array.ndim and len(array) else array,
        "longer": lambda: np.concatenate([array, array[:1]]) if array.ndim else np.zeros(3, array.dtype),
        "flat": lambda: array.reshape(-1),
        "more": lambda: array[..., None],
        "f8": lambda: array.astype("f8"),
        "i2": lambda: np.nan_to_num(array).astype("i8").astype("i2"),
        "u1": lambda: np.random.default_rng(seed).integers(0, 256, array.shape, "u1"),
        "nan": lambda: np.full_like(array, np.nan) if array.dtype.kind == "f" else np.full_like(array, 127),
        "zero": lambda: np.zeros_like(array),
        "huge": lambda: np.full_like(array, np.finfo(array.dtype).max if array.dtype.kind == "f" else 127),
    }
    return simple[how]()


def of_files(case: Any, folder: Path, bases: Bases) -> None:
    """A file of which some bytes are others, and which may be sealed anew, as whoever makes it can do."""
    name, data, sealed = case
    path = folder / f"{name}.h5"
    path.write_bytes(data)
    if sealed and len(data) > hdf5.SEAL.size:
        with path.open("r+b") as file:
            size = len(data) - hdf5.SEAL.size
            file.truncate(size)
            digest = hdf5._digest(file, size, 0, 0)
            file.seek(0, os.SEEK_END)
            file.write(hdf5.SEAL.pack(hdf5.MAGIC, 0, 0, digest))
    read(name, path, folder)
