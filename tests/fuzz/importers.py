"""Cases of what other programs write: files of torch.save, safetensors, folders of PNG files; and names of any kind."""

import json
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import attcli
from attcli import interchange
from attcli.interchange import hub, released_experts
from attcli.stages import importing
from attcli.stages.run import Run
from attcli.store import experts
from tests.conftest import settings_in
from tests.fuzz.bases import TINY, Bases, copied
from tests.fuzz.values import changed, damaged, text

PARTS = ("data.pkl", "version", "byteorder", "data/0")


def _entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _pack(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


class Drawn:
    """Strategies that rest on whole files."""

    def __init__(self, bases: Bases) -> None:
        released = {name: (bases.released / f"{name}_best.pt").read_bytes() for name in ("images", "labels", "lr")}
        pickles = {
            name: next(v for k, v in _entries(bases.released / f"{name}_best.pt").items() if k.endswith("data.pkl"))
            for name in released
        }
        buffer = bases.experts / "replay_buffer_0.pt"
        pickle = next(v for k, v in _entries(buffer).items() if k.endswith("data.pkl"))
        self.released = st.sampled_from(sorted(released)).flatmap(
            lambda name: st.tuples(
                st.just(name), st.one_of(damaged(pickles[name]).map(lambda d: (True, d)), damaged(released[name]))
            )
        )
        of_sets = self.released.map(lambda case: ("set", case))
        self.experts = st.one_of(damaged(pickle).map(lambda data: (True, data)), damaged(buffer.read_bytes()))
        self.imports = st.one_of(of_sets, self.experts.map(lambda case: ("experts", case)))
        data = (bases.safetensors / "distilled.safetensors").read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        entries = json.loads(data[8 : 8 + length])
        header = json.loads(entries["__metadata__"]["attcli"])
        self.safetensors = st.one_of(
            damaged(data).map(lambda data: ("bytes", data)),
            changed(entries).map(lambda entries: ("list", entries)),
            changed(header).map(lambda header: ("header", header)),
        )
        table = (bases.png / "metadata.csv").read_bytes()
        about = json.loads((bases.png / "set.json").read_bytes())
        picture = next(bases.png.rglob("*.png"))
        self.picture = picture.relative_to(bases.png)
        self.png = st.one_of(
            damaged(table).map(lambda data: ("metadata.csv", data)),
            changed(about).map(lambda about: ("set.json", json.dumps(about).encode())),
            damaged(picture.read_bytes()).map(lambda data: (str(self.picture), data)),
            damaged((bases.png / "normaliser.safetensors").read_bytes()).map(lambda d: ("normaliser.safetensors", d)),
        )


def _damaged_archive(path: Path, case: Any) -> None:
    if isinstance(case, bytes):
        path.write_bytes(case)
        return
    entries = _entries(path)
    name = next(name for name in entries if name.endswith("data.pkl"))
    _pack(path, {**entries, name: case[1]})


def of_released_sets(case: Any, folder: Path, bases: Bases) -> None:
    """images_*.pt with labels and learning rate, one of which is changed."""
    name, change = case
    source = copied(bases.released, folder / "set")
    _damaged_archive(source / f"{name}_best.pt", change)
    attcli.load(source)


def of_experts(case: Any, folder: Path, bases: Bases) -> None:
    """replay_buffer_*.pt, changed; every row is put together."""
    path = folder / "replay_buffer_0.pt"
    shutil.copyfile(bases.experts / path.name, path)
    _damaged_archive(path, case)
    layout = experts.artefact.header(bases.artefacts["expert"], experts.KIND, "").about["layout"]
    for rows in released_experts.read_experts(path, layout, "a network"):
        for row in rows:
            assert row.ndim == 1


def of_safetensors(case: Any, folder: Path, bases: Bases) -> None:
    """distilled.safetensors with other bytes, another list of arrays or another header."""
    how, change = case
    source = copied(bases.safetensors, folder / "tensors")
    path = source / "distilled.safetensors"
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    if how == "bytes":
        path.write_bytes(change)
    else:
        entries = json.loads(data[8 : 8 + length])
        if how == "header":
            entries["__metadata__"]["attcli"] = json.dumps(change)
        else:
            entries = change
        header = json.dumps(entries).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])
    attcli.load(source)


def of_pictures(case: Any, folder: Path, bases: Bases) -> None:
    """A folder of PNG files of which a file is changed."""
    name, data = case
    source = copied(bases.png, folder / "pictures")
    (source / name).write_bytes(data)
    attcli.load(source, lr=None if (source / "set.json").exists() else 0.1)


def through_import(case: Any, folder: Path, bases: Bases) -> None:
    """`attcli import` of a set or of experts, one of whose files is changed, into results of its own."""
    what, change = case
    where = folder / "results"
    shutil.rmtree(where, ignore_errors=True)
    places = {"runtime__artifacts": str(where), "runtime__work_dir": str(folder / "work")}
    run = Run(settings_in(folder, **TINY, **places))
    if what == "experts":
        source = copied(bases.experts, folder / "given")
        _damaged_archive(source / "replay_buffer_0.pt", change)
    else:
        source = copied(bases.released, folder / "given")
        _damaged_archive(source / f"{change[0]}_best.pt", change[1])
    importing.run(run, [source])


names = st.one_of(text, text.map(lambda text: f"hf://{text}"), st.from_regex(r"hf://[\w./-]{0,20}", fullmatch=True))


def of_names(case: str, folder: Path, bases: Bases) -> None:
    """What attcli.load is asked for: addresses are only taken apart, other names are looked for in a folder."""
    if case.startswith(hub.PREFIX):
        owner, _, name = hub.name_of(case).partition("/")
        assert owner.strip(".") == owner.lstrip(".")
        assert not name.startswith(".")
    elif case.startswith(("/dev/", "/proc/", "~")):
        interchange.recognised(folder / case.lstrip("/"))
    else:
        attcli.load(folder / case if not case.startswith("/") else case)
