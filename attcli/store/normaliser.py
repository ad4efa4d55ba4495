"""normaliser.h5: how values in [0, 1] became a set's network inputs; a file of its own, as ZCA's matrix is large.

A set names its normaliser by a hash. Standardisation, a few numbers, is in the set's own file as well, which therefore
stands alone.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from attcli.data.normalise import Normaliser
from attcli.errors import UserError
from attcli.store import artefact

KIND = "normaliser"
MAKER = "attcli distill"
NAME = "normaliser.h5"
PARTS = ("mean", "std", "vectors", "values")


def arrays_of(normaliser: Normaliser) -> artefact.Arrays:
    """A normaliser's arrays under their names in files."""
    parts = {name: getattr(normaliser, name) for name in PARTS}
    return {f"normaliser/{name}": part for name, part in parts.items() if part is not None}


def of(about: dict[str, Any], arrays: artefact.Arrays) -> Normaliser:
    """The normaliser that is kept in a file with this header."""
    parts = {name: arrays.get(f"normaliser/{name}") for name in PARTS}
    return Normaliser(kind=about["normaliser"]["kind"], eps=about["normaliser"]["eps"], **parts)  # type: ignore[arg-type]


def check(path: Path, maker: str, about: dict[str, Any], arrays: artefact.Arrays) -> None:
    """UserError unless a file's normaliser is what its header says, and can be divided by."""
    kept = {name.removeprefix("normaliser/"): x for name, x in arrays.items() if name.startswith("normaliser/")}
    values = about["channels"] * about["resolution"] ** 2
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "standardise": {"mean": (about["channels"],), "std": (about["channels"],)}
    }
    shapes["zca"] = {"mean": (values,), "vectors": (values, values), "values": (values,)}
    shapes["contrast"] = {**shapes["zca"], "std": (2,)}
    wanted = shapes[about["normaliser"]["kind"]]
    fits = {name: x.shape for name, x in kept.items()} == wanted and all(np.isfinite(x).all() for x in kept.values())
    artefact.require(path, maker, fits, "its normaliser is not what the header says")
    divisors = kept["values"] + about["normaliser"]["eps"] if "values" in kept else kept["std"]
    artefact.require(path, maker, bool((divisors > 0).all()), "its normaliser divides by zero")


def write(path: Path, about: dict[str, Any], versions: dict[str, str], normaliser: Normaliser) -> None:
    """Write the normaliser of a dataset with these facts, unless the file holds it already."""
    digest = about["normaliser"]["sha256"]
    if _digest(path) == digest:
        return
    fingerprint = artefact.fingerprint("normaliser", 1, {}, {"normaliser": digest})
    artefact.write(path, artefact.Header(KIND, fingerprint, {}, about, versions), arrays_of(normaliser))


def _digest(path: Path) -> str | None:
    """The hash of the normaliser in a file; none where there is no such file, or it can't be read."""
    try:
        return str(artefact.header(path, KIND, MAKER).about["normaliser"]["sha256"]) if path.exists() else None
    except UserError:
        return None


def read(path: Path, digest: str) -> Normaliser | None:
    """The normaliser with that hash, from such a file; none where it holds another one. UserError if it is damaged."""
    about = path.stat()
    return _read(path, digest, (about.st_mtime_ns, about.st_size, about.st_ino))


@lru_cache(maxsize=2)
def _read(path: Path, digest: str, of_file: tuple[int, ...]) -> Normaliser | None:
    """The same, kept while the file is the same: every snapshot that is scored asks for it."""
    header, arrays = artefact.read(path, KIND, MAKER)
    if header.about["normaliser"]["sha256"] != digest:
        return None
    check(path, MAKER, header.about, arrays)
    normaliser = of(header.about, arrays)
    artefact.require(path, MAKER, normaliser.digest() == digest, "its normaliser is not the one that its header names")
    return normaliser
