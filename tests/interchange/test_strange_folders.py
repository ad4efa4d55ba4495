"""Folders and files of other forms that were made to harm: bombs, tables that never end, links that lead out."""

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

import attcli
from attcli import runtime
from attcli.errors import UserError
from attcli.interchange import Plain, Whole, hub, packing, png, safetensors
from attcli.interchange import huggingface as form
from attcli.store import artefact

LINE = 600
"""Characters of the longest refusal."""


def refusal(path: Path, lr: float | None = 0.1) -> str:
    with pytest.raises(UserError) as refused:
        attcli.load(path, lr)
    line = str(refused.value)
    assert line.isprintable()
    assert len(line) < LINE
    return line


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def picture(width: int, height: int, rows: bytes | None = None, *extra: bytes, depth: int = 8) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    data = rows if rows is not None else bytes((width + 1) * height)
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def folder(path: Path, table: str | bytes | None = None, **files: bytes) -> Path:
    """A folder of pictures with its table."""
    path.mkdir(exist_ok=True)
    for name, data in {"a": picture(8, 8), **files}.items():
        (path / f"{name}.png").write_bytes(data)
    names = ["a", *files]
    text = table or "file_name,label\n" + "".join(f"{name}.png,{i}\n" for i, name in enumerate(names))
    (path / "metadata.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_folder_without_any_harm_is_read(tmp_path: Path) -> None:
    assert png.read(folder(tmp_path)).images.shape == (1, 1, 8, 8)


ODD = {
    "huge": (picture(2**31 - 1, 2**31 - 1, b""), "b.png"),
    "wide": (picture(100_000, 100_000, b""), "b.png"),
    "more than it has": (picture(8192, 8192, b""), "b.png"),
    "no rows": (picture(8, 8, b""), "b.png"),
    "a bomb of rows": (picture(8, 8, bytes(10**8)), "b.png"),
    "a bomb of text": (picture(8, 8, None, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))), "b.png"),
    "a bomb of a profile": (picture(8, 8, None, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8)))), "b.png"),
    "a wrong part": (picture(8, 8, None, chunk(b"IHDR", b"x")), "b.png"),
    "many parts": (picture(8, 8, None, *[chunk(b"tEXt", b"a\0b")] * 10**4), "b.png"),
    "of no size": (picture(0, 0, b""), "b.png"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) run\n", "b.png"),
    "words": (b"hello", "b.png"),
    "nothing": (b"", "b.png"),
}


@pytest.mark.parametrize(("data", "name"), ODD.values(), ids=ODD)
def test_pictures_that_are_none_are_refused_or_harmless(tmp_path: Path, data: bytes, name: str) -> None:
    path = folder(tmp_path, b=data)
    if (line := told(path)) is None:
        assert png.read(path).images.shape == (2, 1, 8, 8)  # what is not needed is passed over
    else:
        assert name in line
        assert line.isprintable()
        assert len(line) < LINE


def told(path: Path) -> str | None:
    """What the reading of a folder is refused with, if it is."""
    try:
        png.read(path)
    except UserError as error:
        return str(error)
    return None


TABLES = {
    "absolute": ("file_name,label\n/etc/passwd,0\n", "is no file in the folder"),
    "out": ("file_name,label\n../secret.png,0\n", "is no file in the folder"),
    "link": ("file_name,label\nlink.png,0\n", "is no file in the folder"),
    "NUL": ("file_name,label\na\0.png,0\n", "metadata.csv"),
    "long": ("file_name,label\n" + "x" * 10_000 + ",0\n", "is no file in the folder"),
    "steers": ("file_name,label\n\x1b[2J\u202e.png,0\n", "is no file in the folder"),
    "a folder": ("file_name,label\n.,0\n", "is no file in the folder"),
    "pipe": ("file_name,label\npipe.png,0\n", "is no file in the folder"),
    "huge label": ("file_name,label\na.png," + "9" * 5000 + "\n", "a label that is no number"),
    "large label": ("file_name,label\na.png,99999999999\n", "1 images for 100000000000 classes"),
    "negative label": ("file_name,label\na.png,-7\n", "1 images for -6 classes"),
    "no number": ("file_name,label\na.png,\x1b[2J\n", "a label that is no number"),
    "logits": ("file_name,label,logit_0,logit_1\na.png,0,nan,1\n", "not finite"),
    "more cells": ("file_name,label\na.png,0,1,2\n", "does not have a cell for each column"),
    "long cell": ("file_name,label\n" + "x" * 200_000 + ",0\n", "cannot be read as a table"),
    "no text": (b"file_name,label\n\xff\xfe,0\n", "cannot be read as a table"),
    "quote": ('file_name,label\n"a.png,0\n', "metadata.csv"),
}


def described(path: Path) -> dict[str, Any]:
    """What can be said of the set in a folder without its dataset."""
    plain = png.read(path)
    return packing.about_dataset(Plain(plain.images.float(), plain.labels, 0.1, "x", ""))


@pytest.mark.parametrize(("table", "problem"), TABLES.values(), ids=TABLES)
def test_tables_that_lead_out_or_never_end(tmp_path: Path, table: str | bytes, problem: str) -> None:
    (tmp_path / "secret.png").write_bytes(picture(8, 8))
    path = folder(tmp_path / "set", table)
    (path / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(path / "pipe.png")
    with pytest.raises(UserError, match=problem) as refused:
        described(path)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < LINE


def test_a_table_that_memory_cannot_hold_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path, "file_name,label" + "," * 10**5 + "\n" + "," * 10**5 + "\n")
    monkeypatch.setattr(runtime, "free_memory", lambda: 10**7)
    monkeypatch.setattr(png, "SMALL", 10**6)
    assert "of memory to read, more than is free" in refusal(path)


def test_files_beside_the_pictures_that_never_end(tmp_path: Path) -> None:
    path = folder(tmp_path)
    os.mkfifo(path / "set.json")  # is passed over: reading it would wait
    assert png.read(path).header is None
    (path / "set.json").unlink()
    for content in (
        "[" * 10**5,
        '{"lr": 1, "header": ' + "[" * 200 + "]" * 200 + "}",
        "{}",
        '{"lr": NaN, "header": {}}',
    ):
        (path / "set.json").write_text(content)
        assert "set.json is damaged" in refusal(path)


def written(path: Path, entries: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file of safetensors with this list of arrays."""
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def entry(begin: int, end: int, shape: tuple[int, ...] = (1,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "entries",
    [
        {"labels": entry(0, 4), "lr": entry(0, 4)},
        {"labels": entry(0, 4), "lr": entry(2, 6)},
        {"lr": entry(0, 2**40)},
        {"lr": entry(2**63, 2**63 + 4)},
        {"lr": entry(-4, 0)},
        {"lr": entry(4, 0)},
        {"lr": entry(0, 4, (2**62, 4))},
        {"lr": entry(0, 4, (-1,))},
        {"lr": entry(0, 4, dtype="X99")},
        {"lr": entry(0, 4, (4,), "F8_E4M3")},
        {"lr": entry(0, 4, (2,), "BF16")},
        {"../../lr": entry(0, 4)},
        {"\x1b[2J": entry(0, 4)},
        {"lr": entry(0, 4), "__metadata__": {"attcli": "[" * 10**5}},
        {"lr": entry(0, 4), "__metadata__": {"attcli": 1}},
        {f"a{'b' * i}": entry(0, 0, (0,)) for i in range(500)},
        b"[" * 10**5,
        b"{" * 10**5,
        b'{"lr": ' + b"[" * 10**5,
        b"\xff\xfe",
        b"null",
        b"",
    ],
)
def test_lists_of_arrays_that_overlap_reach_out_or_are_none(tmp_path: Path, entries: Any) -> None:
    assert refusal(written(tmp_path / "a.safetensors", entries, bytes(4)), None)


@pytest.mark.parametrize("length", [2**63, 2**40, safetensors.LONGEST_LIST + 1])
def test_a_list_of_arrays_that_is_longer_than_any(tmp_path: Path, length: int) -> None:
    path = written(tmp_path / "a.safetensors", {"lr": entry(0, 4)}, bytes(4), length)
    assert "its list of arrays is too long" in refusal(path, None)


ELSEWHERE = ("../x", "../../x", "x/..", "./x", "x/.git", "x", "x/y/z", "/x/y", "x/\u202ey", "x/y\n", "x y/z", "", "é/é")


@pytest.mark.parametrize("name", [*ELSEWHERE, "x/" + "y" * 99])
def test_addresses_that_lead_elsewhere_are_no_addresses(name: str) -> None:
    for ask in (attcli.load, hub.name_of):
        with pytest.raises(UserError, match="is no address on the Hub") as refused:
            ask(f"hf://{name}")
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("part", form.PARTS)
def test_a_link_to_a_private_file_is_not_uploaded(tmp_path: Path, part: str) -> None:
    (tmp_path / "private").write_text("my key")
    path = tmp_path / "set"
    (path / part).parent.mkdir(parents=True)
    (path / part).symlink_to(tmp_path / "private")
    with pytest.raises(UserError, match="is a link that leads out of"):
        hub.pushed(path, "me/set", private=True, message="x")


def small_set() -> Whole:
    plain = Plain(torch.randn(2, 3, 32, 32), torch.arange(2), 0.1, "x", "0" * 64)
    return packing.whole_of(plain, packing.about_dataset(plain), None, None)


def test_what_the_card_repeats_of_a_header_is_plain_text() -> None:
    whole = small_set()
    about = {**whole.header.about, "dataset": "<img src=x>[a](javascript:b)"}
    about["network"] = {"arch": "mlp", "x": "a\n---\n# b"}
    about["classes"] = ['"\\"', *about["classes"][1:]]
    about["protocol"] = {**about["protocol"], "x": "`\u202e|"}
    card = form.card(Whole(_with(whole.header, about), whole.arrays, whole.normaliser), soft=False)
    _, _, body = card.split("---\n", 2)
    assert "<" not in body.replace("\\<", "")
    assert "](" not in body.replace("\\](", "")
    assert not [line for line in body.splitlines()[3:] if line.startswith(("#", "---"))]
    assert "\u202e" not in body


def _with(header: artefact.Header, about: dict[str, Any]) -> artefact.Header:
    return artefact.Header(header.kind, header.fingerprint, header.settings, about, header.versions, header.sha256)
