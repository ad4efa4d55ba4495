"""Files that are there whole or not at all."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attcli.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; on leaving, it is synced to the disk and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes had begun to write below `folder`."""
    for path in folder.rglob(".*.tmp"):
        owner = path.suffixes[-2].removeprefix(".") if len(path.suffixes) > 1 else ""
        if owner.isdigit() and (int(owner) == os.getpid() or not Path(f"/proc/{owner}").exists()):
            path.unlink(missing_ok=True)


def writable(folder: Path, setting: str) -> None:
    """UserError if files can't be made in `folder`, which need not exist yet; `setting` is what names it."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "may not be written to" if there.is_dir() else "is no folder"
        raise UserError(f"nothing can be kept in {folder}: {there} {what}; choose another folder as {setting}")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def publish(source: Path, target: Path) -> None:
    """Give the finished file `source` the name `target` too: a hard link, or a copy where the disk has no links."""
    if target.exists() and os.path.samefile(source, target):
        return
    with atomic(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            temporary.write_bytes(source.read_bytes())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone; UserError if another process holds it. The kernel frees it on any death."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another attcli works in {folder}; wait for it or stop it first") from None
        yield
