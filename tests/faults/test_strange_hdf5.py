"""HDF5 files that were made to harm, sealed as attcli seals its own: refused before anything of them is used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from attcli import runtime
from attcli.errors import UserError
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import artefact, dataset, experts, hdf5
from tests.store.made import EXPERT, trajectory

Fill = Callable[[Any], None]

SECRET = np.arange(8, dtype="u1")
NESTED = "[" * 200 + "]" * 200


def sealed(path: Path, fill: Fill, **attributes: Any) -> Path:
    """An expert's file with a good header and three of its four arrays; `fill` adds the fourth, or anything else."""
    header = {"kind": "expert", "fingerprint": "0" * 16, "sha256": "0" * 64, "schema": 2}
    header |= {"settings": "{}", "about": json.dumps(EXPERT), "versions": "{}", **attributes}
    with hdf5.written(path) as file:
        for name, shape in (("digests", (2, 32)), ("loss", (1,)), ("accuracy", (1,))):
            file.create_dataset(name, data=np.zeros(shape, "u1" if name == "digests" else "f4"))
        fill(file)
        for name, value in header.items():
            if value is not None and name not in file.attrs:
                file.attrs[name] = value
    return path


def whole(file: Any) -> None:
    file.create_dataset("parameters", data=np.zeros((2, 50), "f4"))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        artefact.read(path, experts.KIND, experts.MAKER)
    return str(refused.value)


def test_the_file_without_any_harm_is_opened(tmp_path: Path) -> None:
    file, header = artefact.open_file(sealed(tmp_path / "a.h5", whole), experts.KIND, experts.MAKER)
    file.close()
    assert header.about["dataset"] == "digits"


def external_link(file: Any) -> None:
    file["parameters"] = h5py.ExternalLink("secret.h5", "/secret")


def soft_link(file: Any) -> None:
    file["parameters"] = h5py.SoftLink("/loss")


def external_storage(file: Any) -> None:
    file.create_dataset("parameters", (2, 50), "f4", external=[("/etc/passwd", 0, 400)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((2, 50), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "secret", (2, 50))
    file.create_virtual_dataset("parameters", layout)


def compressed(file: Any) -> None:
    file.create_dataset("parameters", (10**6, 50), "f4", compression="gzip", fillvalue=0)


def unknown_filter(file: Any) -> None:
    plist = hdf5.low.h5p.create(hdf5.low.h5p.DATASET_CREATE)
    plist.set_chunk((2, 50))
    plist.set_filter(hdf5.low.h5z.FILTER_SCALEOFFSET, hdf5.low.h5z.FLAG_OPTIONAL, (2, 0))
    space = hdf5.low.h5s.create_simple((2, 50))
    hdf5.low.h5d.create(file.id, b"parameters", hdf5.low.h5t.NATIVE_INT32, space, plist)


def absurd(*shape: int) -> Fill:
    def fill(file: Any) -> None:
        file.create_dataset("parameters", shape, "f4")

    return fill


def overflowing(file: Any) -> None:
    file.create_dataset("parameters", (2**31, 2**31), "f4", chunks=(1, 50))  # 2**64 bytes


def nothing(file: Any) -> None:
    file["parameters"] = h5py.Empty("f4")


def typed(dtype: Any, value: Any = None) -> Fill:
    def fill(file: Any) -> None:
        file.create_dataset("parameters", (2, 50) if value is None else (), dtype, data=value)

    return fill


def reference(file: Any) -> None:
    file.create_dataset("parameters", (1,), h5py.ref_dtype)[0] = file["loss"].ref


def region(file: Any) -> None:
    file.create_dataset("parameters", (1,), h5py.regionref_dtype)[0] = file["loss"].regionref[:]


def many(file: Any) -> None:
    whole(file)
    for number in range(hdf5.MOST_NAMES + 1):
        file.create_group(f"g{number}")


def deep(file: Any) -> None:
    whole(file)
    file.create_group("/".join("abcdefghij"))


def circle(file: Any) -> None:
    whole(file)
    group = file.create_group("group")
    group["again"] = group


def fanning(file: Any) -> None:
    """Four groups in each other, each under 120 names: 120**4 ways to the last one in a small file."""
    whole(file)
    names = [f"n{number}" for number in range(120)]
    group = file
    for _ in range(4):
        below = group.create_group(names[0])
        for name in names[1:]:
            group[name] = below
        group = below


def steering(file: Any) -> None:
    whole(file)
    file.create_dataset("\x1b]0;owned\x07\u202e", data=np.zeros(3))


FILLS: dict[str, tuple[Fill, str]] = {
    "external link": (external_link, "parameters is a link"),
    "soft link": (soft_link, "parameters is a link"),
    "external storage": (external_storage, "parameters is no plain array"),
    "virtual": (virtual, "parameters is no plain array"),
    "gzip bomb": (compressed, "parameters is no plain array"),
    "filter": (unknown_filter, "parameters is no plain array"),
    "absurd": (absurd(2, 2**50), "its arrays claim"),
    "overflow": (overflowing, "its arrays claim"),
    "many dimensions": (absurd(*[2] * 31), "its arrays claim"),
    "words": (typed(h5py.string_dtype()), "parameters holds no plain numbers"),
    "lists": (typed(h5py.vlen_dtype("f4")), "parameters holds no plain numbers"),
    "structure": (typed([("a", "f4"), ("b", "f8")]), "parameters holds no plain numbers"),
    "arrays of arrays": (typed(np.dtype(("f4", (50,)))), "parameters"),
    "enumeration": (typed(h5py.enum_dtype({"a": 1})), "damaged"),
    "turned bytes": (typed(">f4"), "parameters holds no plain numbers"),
    "complex": (typed("c8"), "parameters holds no plain numbers"),
    "nothing": (nothing, "parameters holds no plain numbers"),
    "reference": (reference, "parameters holds no plain numbers"),
    "region": (region, "parameters holds no plain numbers"),
    "number": (typed("f4", 1.0), "its arrays are of other shapes"),
    "other rows": (absurd(3, 50), "its arrays are of other shapes"),
    "other width": (absurd(2, 49), "its arrays are of other shapes"),
    "many names": (many, "it holds more than it should"),
    "deep groups": (deep, "it holds more than it should"),
    "a group in itself": (circle, "it holds more than it should"),
    "groups in each other": (fanning, "it holds more than it should"),
    "a name that steers": (steering, "does not belong there"),
}


@pytest.mark.parametrize(("fill", "problem"), FILLS.values(), ids=FILLS)
def test_arrays_that_are_none_are_refused(tmp_path: Path, fill: Fill, problem: str) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = SECRET
    line = refusal(sealed(tmp_path / "expert.h5", fill))
    assert problem in line
    assert line.isprintable()
    assert len(line) < 500


ATTRIBUTES = {
    "missing": ({"about": None}, "about is missing"),
    "deep": ({"about": NESTED}, "nested too deeply"),
    "very deep": ({"about": "[" * 100_000}, "damaged"),
    "deep settings": ({"settings": f'{{"a": {NESTED}}}'}, "nested too deeply"),
    "deep extras": ({"about": json.dumps({**EXPERT, "x": json.loads(NESTED)})}, "nested too deeply"),
    "huge": ({"about": json.dumps({**EXPERT, "x": "y" * hdf5.LARGEST_ATTRIBUTE})}, "about is too large"),
    "no JSON": ({"about": "{'a': 1}"}, "damaged"),
    "a list": ({"about": "[]"}, "its header is not what it should be"),
    "a long number": ({"about": '{"dataset": ' + "9" * 5000 + "}"}, "damaged"),
    "many texts": ({"about": np.array(["{}"] * 10, dtype=object)}, "about is a list"),
    "numbers": ({"about": np.zeros(10)}, "about is a list"),
    "a fraction": ({"about": 1.5}, "about is neither a text nor a number"),
    "a structure": ({"about": np.zeros((), [("a", "f4")])}, "about is neither a text nor a number"),
    "nothing": ({"about": h5py.Empty("f4")}, "damaged"),
    "no bytes of text": ({"about": np.bytes_(b"\xff\xfe")}, "damaged"),
    "schema in words": ({"schema": "two"}, "damaged"),
    "schema of later": ({"schema": 2**62}, "was written by a newer attcli"),
    "a kind that steers": ({"kind": "\x1b[2J\u202e"}, "is a file of kind"),
    "a fingerprint that leads out": ({"fingerprint": "../../x"}, "names no fingerprint"),
    "a checksum that steers": ({"sha256": "\x1b[2J"}, "names no fingerprint"),
}


@pytest.mark.parametrize(("attributes", "problem"), ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_headers_that_are_none_are_refused(tmp_path: Path, attributes: dict[str, Any], problem: str) -> None:
    line = refusal(sealed(tmp_path / "expert.h5", whole, **attributes))
    assert problem in line
    assert line.isprintable()
    assert len(line) < 500


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "a\u202eb", "\u2066", "a\x9bm", "a\u2028b"])
@pytest.mark.parametrize("fact", ["dataset", "classes", "arch", "layout", "file"])
def test_names_that_steer_a_terminal_or_a_page_are_refused(tmp_path: Path, fact: str, name: str) -> None:
    facts: dict[str, Any] = {
        "dataset": {"dataset": name},
        "classes": {"classes": ["a", name]},
        "arch": {"network": {"arch": name}},
        "layout": {"layout": [[name, [50]]]},
        "file": {"imported": {"file": name, "sha256": "0" * 64}},
    }
    line = refusal(sealed(tmp_path / "expert.h5", whole, about=json.dumps({**EXPERT, **facts[fact]})))
    assert "its header is impossible" in line
    assert line.isprintable()


TOO_LONG = r"holds arrays of 0\.0 GB, more than the 0\.0 GB of memory that are free"


def test_a_long_file_that_takes_no_room_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "normaliser.h5"
    with hdf5.written(path) as file:
        file.create_dataset("normaliser/mean", (10**6,), "f4")[0] = 1
        for name, value in {"kind": "normaliser", "fingerprint": "0" * 16, "sha256": "0" * 64, "schema": 2}.items():
            file.attrs[name] = value
        facts = {name: value for name, value in EXPERT.items() if name not in ("layout", "network")}
        for name, text in (("settings", "{}"), ("about", json.dumps(facts)), ("versions", "{}")):
            file.attrs[name] = text
    monkeypatch.setattr(runtime, "free_memory", lambda: 10**6)
    monkeypatch.setattr(hdf5, "SMALL", 10**6)
    with pytest.raises(UserError, match=TOO_LONG):
        artefact.read(path, "normaliser", "")


def test_a_long_expert_is_not_read_into_memory_but_for_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = experts.path(tmp_path, 0)
    header = artefact.Header("expert", "0" * 16, {}, EXPERT)
    experts.write(file, header, trajectory(1001))
    monkeypatch.setattr(hdf5, "SMALL", 10**4)
    monkeypatch.setattr(runtime, "free_memory", lambda: 10**5)  # the rows are twice as long
    experts.read(file)
    experts.Experts([file]).close()
    monkeypatch.setattr(runtime, "free_memory", lambda: 10**4)
    for read in (experts.read, lambda path: experts.Experts([path])):
        with pytest.raises(UserError, match=TOO_LONG):
            read(file)


def test_a_long_dataset_is_not_read_into_memory_but_for_its_images(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    pipeline.prepare(run)
    monkeypatch.setattr(hdf5, "SMALL", 10)
    monkeypatch.setattr(runtime, "free_memory", lambda: 10**2)
    for read in (dataset.facts, dataset.read):
        with pytest.raises(UserError, match=TOO_LONG):
            read(run.dataset)
