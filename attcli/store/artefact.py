"""The form that all artefacts share: one HDF5 file of named arrays, under a header that says what it is.

The header (HDF5 attributes): `kind`, `schema`, `fingerprint` (the identity of what made it), `settings` and `about`
(JSON), `versions` (provenance) and `sha256`, the checksum of all arrays by name, type, shape and bytes. A file holds
no times, so the same work gives the same bytes.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from attcli.errors import UserError
from attcli.store.files import atomic

SCHEMA = 1
NOT_OPENED = (errno.EACCES, errno.EAGAIN, errno.EMFILE, errno.EISDIR)
"""Why a file that may well be whole is not opened, as errno names it."""

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


def checksum(arrays: Mapping[str, NDArray[Any]], covered: tuple[str, ...] = ()) -> str:
    """SHA-256 of arrays by name, type, shape and bytes, in hexadecimal.

    The arrays `covered` are left out: another array holds digests of theirs, which the reader compares.
    """
    total = hashlib.sha256()
    for name in sorted(set(arrays) - set(covered)):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.data if array.ndim and array.size else array.tobytes())
    return total.hexdigest()


def fingerprint(stage: str, algorithm: int, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The identity of a stage's result: what changes its mathematics, and what went in."""
    content = json.dumps([stage, algorithm, settings, inputs], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write(
    path: Path, header: Header, arrays: Arrays, by_row: Mapping[str, Sequence[NDArray[Any]]] | None = None
) -> str:
    """Write a file atomically and return its checksum.

    Arrays given `by_row`, as equal rows, are left out of the checksum: another array holds their rows' digests.
    """
    digest = checksum(arrays)
    with atomic(path) as temporary, h5py.File(str(temporary), "w", libver="earliest") as file:
        for name, array in sorted(arrays.items()):
            file.create_dataset(name, data=array)
        for name, rows in sorted((by_row or {}).items()):
            whole = file.create_dataset(name, (len(rows), *rows[0].shape), rows[0].dtype)
            for i, row in enumerate(rows):
                whole[i] = row
        file.attrs["schema"] = SCHEMA
        file.attrs["kind"] = header.kind
        file.attrs["fingerprint"] = header.fingerprint
        for name in ("settings", "about", "versions"):
            file.attrs[name] = json.dumps(getattr(header, name), sort_keys=True)
        file.attrs["sha256"] = digest
    return digest


def open_file(path: Path, kind: str, maker: str) -> tuple[h5py.File, Header]:
    """Open an artefact of that kind. UserError if it is missing, damaged or something else; `maker` is the remedy."""
    if not path.exists():
        raise UserError(f"{path} is missing; run `{maker}`")
    try:
        file = h5py.File(str(path), "r")
        attributes = dict(file.attrs)
        header = Header(
            kind=str(attributes["kind"]),
            fingerprint=str(attributes["fingerprint"]),
            settings=json.loads(attributes["settings"]),
            about=json.loads(attributes["about"]),
            versions=json.loads(attributes["versions"]),
            sha256=str(attributes["sha256"]),
        )
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        if path.is_dir() or getattr(error, "errno", None) in NOT_OPENED:
            what = "it is a folder" if path.is_dir() else os.strerror(int(getattr(error, "errno", 0)))
            raise UserError(f"{path} cannot be opened ({what}); close what uses it, or name another file") from None
        raise damaged(path, maker, error) from None
    if header.kind != kind:
        file.close()
        raise UserError(f"{path} is a file of kind {header.kind!r}, not {kind!r}; name another one or run `{maker}`")
    if int(attributes["schema"]) > SCHEMA:
        file.close()
        raise UserError(f"{path} was written by a newer attcli; upgrade attcli or run `{maker}`")
    return file, header


def damaged(path: Path, maker: str, error: object) -> UserError:
    """The error of a file that cannot be read as what it should be."""
    return UserError(f"{path} is damaged or cut short ({error}); delete it and run `{maker}`")


def read(path: Path, kind: str, maker: str, covered: tuple[str, ...] = ()) -> tuple[Header, Arrays]:
    """A whole artefact, its checksum verified; the arrays `covered` are the caller's to compare with their digests."""
    file, header = open_file(path, kind, maker)
    arrays: Arrays = {}

    def take(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item[()])

    with file:
        try:
            file.visititems(take)
        except (OSError, RuntimeError) as error:
            raise damaged(path, maker, error) from None
    if checksum(arrays, covered) != header.sha256:
        raise damaged(path, maker, "its checksum does not match")
    return header, arrays


def header(path: Path, kind: str, maker: str) -> Header:
    """The header alone; the arrays are not read."""
    file, found = open_file(path, kind, maker)
    file.close()
    return found
