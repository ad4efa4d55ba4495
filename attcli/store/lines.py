"""Lines of JSON that are appended to a file, each with a checksum of what it says."""

import hashlib
import json
from typing import Any

CHECKSUM = "checksum"
"""The name in an entry that holds the SHA-256 of all others."""


def line_of(entry: dict[str, Any]) -> bytes:
    """The line of an entry."""
    return json.dumps({**entry, CHECKSUM: _digest(entry)}).encode() + b"\n"


def entry_of(line: bytes) -> dict[str, Any] | None:
    """What a line says; None where it is torn or not what was written.

    Lines of older versions have no checksum, and are taken as they are.
    """
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    checksum = entry.pop(CHECKSUM, None)
    return entry if checksum is None or checksum == _digest(entry) else None


def _digest(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry).encode()).hexdigest()
