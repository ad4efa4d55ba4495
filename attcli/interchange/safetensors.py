"""safetensors: a set's own arrays under their own names, so that nothing is lost, in a form that any program can read.

distilled.safetensors holds the arrays; its metadata holds the header as JSON (`attcli`), and in plain words what other
programs need: parameterisation, storage, learning rate, classes, normaliser, protocol. Where the normaliser is a large
matrix, normaliser.safetensors holds it. What is read back is the same file, bit for bit.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attcli import coding
from attcli.errors import UserError
from attcli.interchange import Format, Whole, details, packing

if TYPE_CHECKING:
    from attcli.data.normalise import Normaliser
    from attcli.store.artefact import Arrays, Header

FORMAT = Format("a set in safetensors, distilled.safetensors, exact")
NAME = "distilled.safetensors"
NORMALISER = "normaliser.safetensors"
OURS = "attcli"
"""The key of the metadata that holds the header."""

LARGEST_HEADER = 4 << 20
LONGEST_LIST = 16 << 20
"""Bytes of the names, types and places of a file's arrays, with the header in another JSON around it."""

MAKER = "attcli export --to safetensors"


def recognises(path: Path) -> bool:
    """Whether it is such a file, or a folder with it."""
    return path.suffix == ".safetensors" if path.is_file() else (path / NAME).is_file()


def read(path: Path) -> Whole:
    """The set. UserError where the file is none, damaged, or not what its header says."""
    path = path / NAME if path.is_dir() else path
    metadata, arrays = _arrays(path, r"[a-z]+(/\w+)*")
    header = header_in(path, metadata)
    from attcli.store import artefact, headers

    wrong = [name for name in arrays if not re.fullmatch(headers.ARRAYS[header.kind], name)]
    if wrong or (lacking := headers.missing(header.kind, arrays)):
        raise _damaged(path, f"{wrong[0]} does not belong there" if wrong else f"it has no array {lacking}")
    if artefact.checksum(arrays) != header.sha256:
        raise _damaged(path, "its checksum does not match")
    return Whole(header, arrays, _normaliser(path, header, arrays))


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"{path} is damaged, or no set of attcli in safetensors ({details(reason)}); get it again")


def _arrays(path: Path, names: str) -> tuple[dict[str, str], Arrays]:
    """The metadata and the arrays of a file. The library checks that they fill the file, and no more."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path} is missing; name a file or folder that exists")
    _check_size(path)
    try:
        with safe_open(path, framework="numpy") as file:
            if wrong := [name for name in file.keys() if not re.fullmatch(names, name)]:  # noqa: SIM118  # no dict
                raise _damaged(path, f"{wrong[0][:80]} does not belong there")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return dict(file.metadata() or {}), arrays
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise _damaged(path, error) from None


def _check_size(path: Path) -> None:
    """UserError where the list of arrays is longer than any that is meant, or the numbers take more than the memory.

    The library reads all of both.
    """
    from attcli import runtime

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LONGEST_LIST:
        raise _damaged(path, "its list of arrays is too long")
    if (size := path.stat().st_size) > max(LONGEST_LIST, runtime.free_memory() / 2):
        raise UserError(f"{path} has {size / 1e9:,.1f} GB, more than the memory that is free; name another file")


def header_in(path: Path, metadata: dict[str, str]) -> Header:
    """The header of a set in the metadata of a file. UserError where it is missing, or not what it should be."""
    from attcli.store import artefact, headers, synthetic

    content = _json(path, metadata)
    kinds = {"kind": str, "fingerprint": str, "sha256": str, "settings": dict, "about": dict, "versions": dict}
    if content.keys() != kinds.keys() or not all(isinstance(content[name], kind) for name, kind in kinds.items()):
        raise _damaged(path, "its header is not what it should be")
    if content["kind"] != synthetic.KIND or not re.fullmatch("[0-9a-f]{16}", content["fingerprint"]):
        raise _damaged(path, "its header is not that of a set")
    if problem := headers.problem(content["kind"], content["about"]):
        raise _damaged(path, problem)
    return artefact.Header(**content)


def _json(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    from attcli.store import headers

    text = metadata.get(OURS, "")
    if not text:
        raise UserError(f"{path} is no set of attcli: its metadata lacks the key {OURS}; name another file")
    try:
        content = headers.parsed(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if not isinstance(content, dict):
        raise _damaged(path, "its header is not what it should be")
    return content


def _normaliser(path: Path, header: Header, arrays: Arrays) -> Normaliser | None:
    """The set's normaliser: from its own arrays, or the file beside it. None where it is not there."""
    if "normaliser/mean" in arrays:
        return _checked(path, header.about, arrays)
    return read_normaliser(path.with_name(NORMALISER), header.about)


def read_normaliser(path: Path, about: dict[str, Any]) -> Normaliser | None:
    """The normaliser in a file of its own, compared with what a set's header says of it; None where there is none."""
    return _checked(path, about, _arrays(path, r"normaliser/\w+")[1]) if path.exists() else None


def _checked(path: Path, about: dict[str, Any], arrays: Arrays) -> Normaliser:
    from attcli.store import artefact
    from attcli.store import normaliser as store

    store.check(path, MAKER, about, arrays)
    normaliser = store.of(about, arrays)
    fits = normaliser.digest() == about["normaliser"]["sha256"]
    artefact.require(path, MAKER, fits, "its normaliser is not the one that the set names")
    return normaliser


def write_normaliser(path: Path, whole: Whole) -> None:
    """Write the normaliser of a set, which is at hand, into a file of its own."""
    from attcli.store import normaliser as store

    assert whole.normaliser is not None
    about = json.dumps(whole.header.about["normaliser"], sort_keys=True)
    _save(path, store.arrays_of(whole.normaliser), {OURS: about})


def losses(whole: Whole, variant: str) -> list[str]:
    """What is not at hand."""
    return [] if whole.normaliser else ["the normaliser, which is not beside the set"]


def normaliser_apart(whole: Whole) -> Normaliser | None:
    """The normaliser that gets a file of its own; None where the set's file holds it, or it is not at hand."""
    return None if "normaliser/mean" in whole.arrays else whole.normaliser


def files(folder: Path, whole: Whole) -> list[Path]:
    """What `write` writes, and a normaliser that lies there of another set, which nobody should take for this one's.

    UserError where the set's own normaliser is not at hand, and another one would be taken for it.
    """
    stale = folder / NORMALISER
    if whole.normaliser is None and stale.exists():
        try:
            read_normaliser(stale, whole.header.about)
        except UserError:
            raise UserError(
                f"{stale} is not the normaliser of this set, and that one is not at hand; write into another folder: "
                f"--out FOLDER"
            ) from None
    of_another = stale.exists() and "normaliser/mean" in whole.arrays
    return [folder / NAME, *([stale] if normaliser_apart(whole) or of_another else [])]


def write(folder: Path, whole: Whole, variant: str) -> None:
    """Write the set, with both of its variants; and its normaliser where that is large."""
    _save(folder / NAME, whole.arrays, metadata_of(whole))
    if normaliser_apart(whole):
        write_normaliser(folder / NORMALISER, whole)


def _save(path: Path, arrays: Arrays, metadata: dict[str, str]) -> None:
    import numpy as np
    from safetensors.numpy import save

    from attcli.atomic import atomic

    data = save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata)
    with atomic(path) as temporary:
        temporary.write_bytes(data)  # its save_file has an error of its own for a full disk


def header_text(whole: Whole) -> str:
    """A set's header as JSON."""
    from dataclasses import asdict

    return json.dumps(asdict(whole.header), sort_keys=True)


def metadata_of(whole: Whole) -> dict[str, str]:
    """The metadata: the header, and what programs that do not know attcli need."""
    distilled, about = packing.decoded(whole), whole.header.about
    kept = about.get("coding") or coding.PLAIN
    plain = {
        "parameterisation": kept["parameterisation"],
        "storage": kept["storage"],
        "lr": distilled.lr,
        "dataset": about["dataset"],
        "classes": about["classes"],
        "normaliser": about["normaliser"],
        "protocol": about["protocol"],
        "size": distilled.size,
    }
    words = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in plain.items()
    }
    return {"format": "np", OURS: header_text(whole), **words}
