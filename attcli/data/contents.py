"""What image files hold: a digest of each and its size in pixels, kept so that it is found out only once."""

import hashlib
import io
import json
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from loguru import logger

from attcli.data.listing import Content, Listing

GREY = ("1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
SETTLED_NS = 2_000_000_000
"""A file that changed less than so long ago is looked at again: another change may bear the same time."""

TOLD_FROM = 1000

SHARES = 8
"""Pieces of the work for each worker, so that none waits long for another."""


def contents(listing: Listing, cache: Path) -> dict[str, Content]:
    """What each file of a listing holds, by its path.

    What is kept in the folder `cache` is taken where the file's size and time are the same. A listing remembers it.
    """
    if not listing.contents:
        listing.contents.update(_contents(listing, cache))
    return listing.contents


def _contents(listing: Listing, cache: Path) -> dict[str, Content]:
    root = os.fspath(listing.root)
    kept_in = cache / f"images-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"
    kept = _read(kept_in)
    now = time.time_ns()
    stamps = {path: _stamp(f"{root}/{path}") for path, _ in listing.files}
    missing = [path for path, stamp in stamps.items() if path not in kept or kept[path][0] != stamp]
    if missing:
        if len(missing) >= TOLD_FROM:
            logger.info("looking at {} files below {}, which is done once", len(missing), root)

        def some(places: range) -> list[list[Any]]:
            return [_look(f"{root}/{missing[place]}") for place in places]

        with warnings.catch_warnings(), ThreadPoolExecutor(workers()) as pool:
            warnings.simplefilter("ignore")  # Pillow's, of odd metadata
            looked = [content for share in pool.map(some, shares(len(missing))) for content in share]
        kept |= {path: [stamps[path], *content] for path, content in zip(missing, looked, strict=True)}
        _write(kept_in, {p: entry for p, entry in kept.items() if entry[0] and entry[0][1] < now - SETTLED_NS})
    return {path: _content(kept[path]) for path in stamps}


def workers() -> int:
    """The threads that read files."""
    from attcli import runtime

    return runtime.cores()


def shares(count: int) -> list[range]:
    """So many places, shared out among the workers in pieces of some size."""
    size = max(1, -(-count // (SHARES * workers())))
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def _stamp(path: str) -> list[int] | None:
    """A file's size and the time of its last change."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _look(path: str) -> list[Any]:
    from PIL import Image

    try:
        with open(path, "rb", buffering=0) as file:
            data = file.readall()
    except OSError:
        return ["", None, None]
    digest = hashlib.sha256(data).hexdigest()
    try:
        with Image.open(io.BytesIO(data)) as image:
            return [digest, list(image.size), image.mode not in GREY]
    except Exception:  # Pillow raises anything on damaged files; decoding says what is wrong
        return [digest, None, None]


def _content(entry: list[Any]) -> Content:
    stamp, digest, pixels, colour = entry
    return Content(stamp[0] if stamp else 0, digest, tuple(pixels) if pixels else None, colour)


def _read(path: Path) -> dict[str, list[Any]]:
    """What is kept; nothing where it cannot be read."""
    try:
        kept = json.loads(path.read_bytes())
        return {name: entry for name, entry in kept.items() if _is_entry(entry)}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 4 and isinstance(entry[0], list) and len(entry[0]) == 2


def _write(path: Path, kept: dict[str, list[Any]]) -> None:
    """Keep it, where that is possible: without it, files are just looked at again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept))
        os.replace(temporary, path)


def digest(listing: Listing, cache: Path) -> str:
    """The SHA-256 of all images of a listing: parts, classes, names, sizes and bytes."""
    by_path = contents(listing, cache)
    total = hashlib.sha256(json.dumps(listing.classes).encode())
    for part, files in (("train", listing.train), ("test", listing.test)):
        for path, label in files or []:
            content = by_path[path]
            total.update(f"{part} {label} {content.size} {content.sha256} ".encode() + os.fsencode(path) + b"\n")
    return total.hexdigest()
