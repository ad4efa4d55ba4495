"""The form that all artefacts share: one HDF5 file of named arrays, under a header that says what it is.

The header (HDF5 attributes): `kind`, `schema`, `fingerprint` (the identity of what made it), `settings` and `about`
(JSON), `versions` (provenance) and `sha256`, the checksum of all arrays by name, type, shape and bytes, which is how
other stages' identities name the file's content. A seal at the end of the file covers the header too (`hdf5.py`). A
file holds no times, so the same work gives the same bytes.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from loguru import logger
from numpy.typing import NDArray

from attcli.atomic import atomic
from attcli.errors import DamagedError, UnavailableError, UserError
from attcli.store import hdf5, headers
from attcli.store.blocks import BlockDigests, digests_of
from attcli.store.hdf5 import OF_THE_SYSTEM, UNREADABLE, BadFileError

SCHEMA = 2
"""Files of schema 2 are sealed: a checksum covers all their bytes. Those of schema 1 are read on, with a warning,
but for snapshots, which had other arrays then."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Header:
    """What a file says of itself; `about` is what the next stage needs to know."""

    kind: str
    fingerprint: str
    settings: dict[str, Any]
    about: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""


@dataclass(frozen=True)
class Streamed:
    """An array (N, …) that is never whole in memory: `blocks()` yields its rows in their order, some at a time."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterable[NDArray[Any]]]


def checksum(arrays: Mapping[str, NDArray[Any]], covered: tuple[str, ...] = ()) -> str:
    """SHA-256 of arrays by name, type, shape and bytes, in hexadecimal.

    The arrays `covered` are left out: another array holds digests of theirs, which the reader compares.
    """
    total = hashlib.sha256()
    for name in sorted(set(arrays) - set(covered)):
        array = np.ascontiguousarray(arrays[name])
        _add_heading(total, name, array.dtype, array.shape)
        _add(total, array)
    return total.hexdigest()


def _add_heading(total: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    total.update(f"{name} {dtype.str} {shape}\n".encode())


def _add(total: Any, array: NDArray[Any]) -> None:
    total.update(array.data if array.ndim and array.size else array.tobytes())


def fingerprint(stage: str, algorithm: int, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The identity of a stage's result: what changes its mathematics, and what went in."""
    content = json.dumps([stage, algorithm, settings, inputs], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write(
    path: Path,
    header: Header,
    arrays: Mapping[str, NDArray[Any] | Streamed],
    by_row: Mapping[str, Sequence[NDArray[Any]]] | None = None,
    digested: Mapping[str, int] | None = None,
) -> str:
    """Write a file atomically and return its checksum.

    Arrays given `by_row`, as equal rows, are left out of the checksum: another array holds their rows' digests. An
    array that is `digested`, in blocks of so many rows, gets an array of its blocks' digests beside it, and is left out
    of the seal, so that a part of it can be read and verified alone. At most one array of a file is left out.
    """
    digested = digested or {}
    unsealed = next(iter([*(by_row or {}), *digested]), None)
    total = hashlib.sha256()
    with atomic(path) as temporary, hdf5.written(temporary, unsealed) as file:
        for name, array in sorted(arrays.items()):
            _write_array(file, name, array, total, digested.get(name))
        for name, rows in sorted((by_row or {}).items()):
            shape, kind = _row_form(rows)
            dataset = file.create_dataset(name, (len(rows), *shape), kind)
            for i in range(len(rows)):
                dataset[i] = rows[i]
        file.attrs["schema"] = SCHEMA
        file.attrs["kind"] = header.kind
        file.attrs["fingerprint"] = header.fingerprint
        for name in ("settings", "about", "versions"):
            file.attrs[name] = json.dumps(getattr(header, name), sort_keys=True)
        file.attrs["sha256"] = total.hexdigest()
    return total.hexdigest()


def _write_array(
    file: h5py.File, name: str, array: NDArray[Any] | Streamed, total: Any, rows_of_a_block: int | None
) -> None:
    """Write one array, adding it to the file's checksum; with the digests of its blocks where these have a size."""
    if not isinstance(array, Streamed):
        file.create_dataset(name, data=array)
        array = np.ascontiguousarray(array)
        _add_heading(total, name, array.dtype, array.shape)
        _add(total, array)
        return
    _add_heading(total, name, array.dtype, array.shape)
    dataset = file.create_dataset(name, array.shape, array.dtype)
    blocks = BlockDigests(rows_of_a_block) if rows_of_a_block else None
    begin = 0
    for block in map(np.ascontiguousarray, array.blocks()):
        dataset[begin : begin + len(block)] = block
        _add(total, block)
        if blocks is not None:
            blocks.add(block)
        begin += len(block)
    if begin != len(dataset):
        raise ValueError(f"{name}: {begin} rows instead of {len(dataset)}")
    if blocks is not None:
        file.create_dataset(digests_of(name), data=blocks.finished())


def _row_form(rows: Sequence[NDArray[Any]]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type of a row; the row itself is let go, as a large one would be held while others are written."""
    first = rows[0]
    return first.shape, first.dtype


def refuse_folder(path: Path) -> None:
    """UserError for a folder where a file is meant, with the file in it that may be."""
    if path.is_dir():
        inside = [file for file in (path / "synthetic.h5", *sorted(path.glob("iteration-*.h5"))[-1:]) if file.exists()]
        example = f", such as {inside[0]}" if inside else ""
        raise UserError(f"{path} is a folder; name the file in it{example}")


def open_file(path: Path, kind: str, maker: str) -> tuple[h5py.File, Header]:
    """Open an artefact of that kind, its seal compared and its header checked; none of its arrays is read.

    UserError if it is missing, damaged or something else; `maker` is the remedy.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; run `{maker}`")
    refuse_folder(path)
    try:
        is_sealed = hdf5.sealed(path)
        file = h5py.File(str(path), "r")
    except (OSError, MemoryError) as error:
        raise unreadable(path, maker, error) from None
    except (BadFileError, RuntimeError, ValueError, LookupError, TypeError) as error:
        if "HDF5 file" in str(error) or "regular" in str(error):
            raise UserError(f"{path} is no file of attcli ({error}); {_other_than(path, maker)}") from None
        raise damaged(path, maker, error) from None
    try:
        its_header = _header(file, path, kind, maker, is_sealed)
        kept = datasets(file, kind, path)
        if lacking := headers.missing(kind, kept):
            raise BadFileError(f"it has no array {lacking}")
        shapes = {name: array.shape for name, array in kept.items()}
        if problem := headers.misshapen(kind, shapes, its_header.about):
            raise BadFileError(problem)
    except UserError:
        file.close()
        raise
    except UNREADABLE as error:
        file.close()
        raise unreadable(path, maker, error) from None
    return file, its_header


OF_OTHERS = (".pt", ".pth", ".safetensors")
"""What files of other programs end in that `attcli import` may read."""


def _other_than(path: Path, maker: str) -> str:
    """What to do about a file that is none of attcli."""
    if path.suffix in OF_OTHERS:
        return f"`attcli import {path}` takes in sets and experts of other programs"
    return f"name another one, or run `{maker}`"


def _header(file: h5py.File, path: Path, kind: str, maker: str, is_sealed: bool) -> Header:
    """The header of an open file, checked against what its kind may say."""
    if "kind" not in file.attrs or "schema" not in file.attrs:
        raise UserError(f"{path} is no file of attcli (an HDF5 file of something else); name another one")
    texts: dict[str, Any] = {name: str(hdf5.attribute(file, name)) for name in ("kind", "fingerprint", "sha256")}
    contents: dict[str, Any] = {
        name: headers.parsed(hdf5.attribute(file, name)) for name in ("settings", "about", "versions")
    }
    schema = int(hdf5.attribute(file, "schema"))
    if texts["kind"] != kind:
        raise UserError(
            f"{path} is a file of kind {texts['kind'][:40]!r}, not {kind!r}; name another, or run `{maker}`"
        )
    if schema > SCHEMA:
        raise UserError(f"{path} was written by a newer attcli; upgrade attcli or run `{maker}`")
    if not is_sealed and schema > 1:
        raise BadFileError("its seal is missing")
    if not is_sealed and (path, kind) not in _told:
        _told.add((path, kind))
        logger.warning("{} is of an older form, whose header no checksum covers; it is read as it is", path)
    if not all(isinstance(content, dict) for content in contents.values()):
        raise BadFileError("its header is not what it should be")
    if problem := headers.problem(kind, contents["about"]):
        raise BadFileError(f"its header is impossible: {problem}")
    if not headers.PLAIN.fullmatch(texts["fingerprint"]) or not headers.PLAIN.fullmatch(texts["sha256"]):
        raise BadFileError("its header names no fingerprint and checksum")
    return Header(**texts, **contents)


_told: set[tuple[Path, str]] = set()
"""Files of the first schema that a warning was given for."""


def kind_of(path: Path) -> str | None:
    """The kind that a file says it is, unverified; None where it says nothing.

    UserError where the system can't read it now.
    """
    try:
        if not path.is_file():
            return None
        hdf5.sealed(path)  # HDF5 itself may hang on a damaged file
        with h5py.File(str(path), "r") as file:
            return str(hdf5.attribute(file, "kind"))
    except UNREADABLE as error:
        if is_of_the_system(error):
            raise unreadable(path, "", error) from None
        return None


def damaged(path: Path, maker: str, error: object) -> DamagedError:
    """The error of a file that cannot be read as what it should be."""
    reason = " ".join(str(error).split())[:200]
    return DamagedError(f"{path} is damaged or cut short ({reason}); move it elsewhere and run `{maker}`")


def is_of_the_system(error: BaseException) -> bool:
    """Whether an error says nothing about a file: the system does not let it be read now."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in OF_THE_SYSTEM)


def unreadable(path: Path, maker: str, error: BaseException) -> UserError:
    """The error of a file that cannot be read: it is damaged, or the system does not let it be read now."""
    if isinstance(error, MemoryError):
        return UnavailableError(f"{path} cannot be read: there is too little memory; run it again where there is more")
    if isinstance(error, OSError) and is_of_the_system(error):
        what = os.strerror(int(error.errno or 0))
        return UnavailableError(
            f"{path} cannot be opened ({what}); close what uses it, see that its disk works, or name another file"
        )
    return damaged(path, maker, error)


def read(path: Path, kind: str, maker: str, covered: tuple[str, ...] = ()) -> tuple[Header, Arrays]:
    """A whole artefact, its checksum verified; the arrays `covered` are the caller's to compare with their digests."""
    file, header = open_file(path, kind, maker)
    with file:
        try:
            arrays: Arrays = hdf5.read(path, datasets(file, kind, path))
        except UNREADABLE as error:
            raise unreadable(path, maker, error) from None
    if checksum(arrays, covered) != header.sha256:
        raise damaged(path, maker, "its checksum does not match")
    return header, arrays


def datasets(file: h5py.File, kind: str, path: Path) -> dict[str, h5py.Dataset]:
    """The arrays of an open artefact, by name, none of them read yet. BadFileError for what does not belong there."""
    return hdf5.datasets(file, headers.ARRAYS.get(kind, ".*"), path.stat().st_size)


def require(path: Path, maker: str, fits: bool, problem: str) -> None:
    """UserError unless an array is what the header says."""
    if not fits:
        raise damaged(path, maker, problem)


def header(path: Path, kind: str, maker: str) -> Header:
    """The header alone; the arrays are not read."""
    file, its_header = open_file(path, kind, maker)
    file.close()
    return its_header
