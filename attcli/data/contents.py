"""What image files hold: a digest of each and its size in pixels, kept so that it is found out only once."""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from loguru import logger

from attcli.atomic import atomic, sweep_killed
from attcli.data.listing import Content, Listing

SETTLED_NS = 2_000_000_000
"""A file that changed less than so long ago is looked at again: another change may bear the same time."""

TOLD_FROM = 1000
"""Of so many files it is said that they are looked at."""


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
        looked = _looks([f"{root}/{path}" for path in missing])
        kept |= {path: [stamps[path], *content] for path, content in zip(missing, looked, strict=True)}
        settled = {p: entry for p, entry in kept.items() if _is_entry(entry) and entry[0][1] < now - SETTLED_NS}
        keep(kept_in, json.dumps(settled))
    return {path: _content(kept[path]) for path in stamps}


def _looks(paths: list[str]) -> list[Any]:
    """The digest of each file, its size in pixels, and whether it is in colour."""
    from attcli.data.image import look_at_each
    from attcli.data.readers import each_piece

    return [look for some in each_piece(look_at_each, paths) for look in some]


def _stamp(path: str) -> list[int] | None:
    """A file's size and the time of its last change."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


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
    """Whether it tells of a file that could be read: one that could not be may be mended without a new time."""
    is_stamped = isinstance(entry, list) and len(entry) == 4 and isinstance(entry[0], list) and len(entry[0]) == 2
    return is_stamped and bool(entry[1])


def keep(path: Path, text: str) -> None:
    """Keep what was found out, where that is possible: without it, files are just looked at again."""
    with suppress(OSError):
        with atomic(path) as temporary:
            temporary.write_text(text)
        sweep_killed(path)


def digest(listing: Listing, cache: Path) -> str:
    """The SHA-256 of all images of a listing: parts, classes, names, sizes and bytes."""
    by_path = contents(listing, cache)
    total = hashlib.sha256(json.dumps(listing.classes).encode())
    for part, files in (("train", listing.train), ("test", listing.test)):
        for path, label in files or []:
            content = by_path[path]
            total.update(f"{part} {label} {content.size} {content.sha256} ".encode() + os.fsencode(path) + b"\n")
    return total.hexdigest()
