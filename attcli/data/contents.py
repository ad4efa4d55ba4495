"""What image files hold: a digest of each and its size in pixels, kept so that it is found out only once."""

import hashlib
import io
import json
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from attcli.data.listing import Listing

GREY = ("1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
SETTLED_NS = 2_000_000_000
"""A file that changed less than so long ago is looked at again: another change may bear the same time."""

TOLD_FROM = 1000


@dataclass(frozen=True)
class Content:
    """A file: bytes, SHA-256; width and height in pixels and whether it is in colour, None where it is no image."""

    size: int
    sha256: str
    pixels: tuple[int, int] | None
    colour: bool | None


def contents(listing: Listing, cache: Path) -> dict[str, Content]:
    """What each file of a listing holds, by its path.

    What is kept in the folder `cache` is taken where the file's size and time are the same.
    """
    kept_in = cache / f"images-{hashlib.sha256(os.fsencode(listing.root)).hexdigest()[:16]}.json"
    kept = _read(kept_in)
    now = time.time_ns()
    stamps = {path: _stamp(listing.root / path) for path, _ in listing.files}
    missing = [path for path, stamp in stamps.items() if kept.get(path, [None])[0] != stamp]
    if missing:
        if len(missing) >= TOLD_FROM:
            logger.info("looking at {} files below {}, which is done once", len(missing), listing.root)
        with warnings.catch_warnings(), ThreadPoolExecutor(workers()) as pool:
            warnings.simplefilter("ignore")  # Pillow's, of odd metadata
            looked = pool.map(lambda path: _look(listing.root / path), missing)
            kept |= {path: [stamps[path], *content] for path, content in zip(missing, looked, strict=True)}
        _write(kept_in, {p: entry for p, entry in kept.items() if entry[0] and entry[0][1] < now - SETTLED_NS})
    return {path: _content(kept[path]) for path in stamps}


def workers() -> int:
    """The threads that read files."""
    from attcli import runtime

    return runtime.cores()


def _stamp(path: Path) -> list[int] | None:
    """A file's size and the time of its last change."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _look(path: Path) -> list[Any]:
    from PIL import Image

    try:
        data = path.read_bytes()
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
        return {name: entry for name, entry in kept.items() if isinstance(entry, list) and len(entry) == 4}
    except (OSError, ValueError, AttributeError):
        return {}


def _write(path: Path, kept: dict[str, list[Any]]) -> None:
    """Keep it, where that is possible: without it, files are just looked at again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept))
        os.replace(temporary, path)


def digest(listing: Listing, cache: Path) -> str:
    """The SHA-256 of all images of a listing: parts, classes, names, sizes and bytes."""
    found = contents(listing, cache)
    total = hashlib.sha256(json.dumps(listing.classes).encode())
    for part, files in (("train", listing.train), ("test", listing.test)):
        for path, label in files or []:
            content = found[path]
            total.update(f"{part} {label} {content.size} {content.sha256} ".encode() + os.fsencode(path) + b"\n")
    return total.hexdigest()
