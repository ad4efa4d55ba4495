"""Files that are there whole or not at all, and folders that one process at a time works in."""

import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout
from loguru import logger

from attcli import container
from attcli.atomic import atomic
from attcli.errors import UserError

LOCK = ".lock"
"""The file in a folder that is locked by who works there."""

HOLDER = ".holder"
"""The file in a held folder that names what is done there."""

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What file systems that know no locks answer, as errno names it."""

LOOK_SECONDS = 0.5
"""How often a process that waits for another one looks whether it is done."""


def set_aside(path: Path, reason: object) -> None:
    """Rename a damaged file, so that it is never used again, and say so."""
    aside = move_aside(path, path.with_name(f"{path.name}.damaged"))
    logger.warning("{} is damaged ({}); it is kept as {} and made anew", path, reason, aside.name)


def move_aside(path: Path, aside: Path) -> Path:
    """Move a file to `aside`, with a number after it where that name is taken; returns where it is now."""
    names = (aside.with_name(f"{aside.name}{number or ''}") for number in itertools.count())
    free = next(name for name in names if not name.exists())
    shutil.move(path, free)
    return free


def nearest_existing(path: Path) -> Path:
    """The path, or what exists nearest above it."""
    nearest = path.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    return nearest


def writable(folder: Path, setting: str) -> None:
    """UserError if files can't be made in `folder`, which need not exist yet; `setting` is what names it."""
    nearest = nearest_existing(folder)
    if not nearest.is_dir():
        raise UserError(f"nothing can be kept in {folder}: {nearest} is no folder; choose another folder as {setting}")
    if os.access(nearest, os.W_OK | os.X_OK):
        return
    what, inside = f"may not be written to by user {os.getuid()}", '--user "$(id -u):$(id -g)"'
    if os.statvfs(nearest).f_flag & os.ST_RDONLY:
        what, inside = "is mounted read-only", f'-v "$PWD/results:{nearest}", without :ro'
    remedy = f"choose another folder as {setting}"
    if container.kind() is not None:
        remedy = f"start the container with {inside}, or {remedy}"
    raise UserError(f"nothing can be kept in {folder}: {nearest} {what}; {remedy}")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_synced(path: Path, data: bytes, at: int | None = None) -> None:
    """Append to an existing file, or write over what stands from byte `at` on; on the disk when this returns.

    OSError names the file.
    """
    try:
        with path.open("ab" if at is None else "r+b") as file:
            if at is not None:
                file.seek(at)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)
        raise


def link(source: Path, target: Path) -> None:
    """Give the finished file `source` the name `target` too: a hard link, or a copy where the disk has no links."""
    if target.exists() and os.path.samefile(source, target):
        return
    with atomic(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


@contextmanager
def locked(folder: Path, wait: Callable[[], bool] | None = None, work: str | None = None) -> Iterator[None]:
    """Hold `folder` for this process alone; the system frees it on any death. A process may hold it several times.

    Where another process holds it: UserError, or, with `wait`, this one waits for as long as `wait()` is true or until
    it raises an error. With `work`, a line that names what is done in the folder, it waits only for a process that
    named the same.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # as below /proc
        raise UserError(
            f"nothing can be kept in {folder}: its file system takes no folders; choose another folder, such as with "
            f"--artifacts DIR"
        ) from None
    # The fallback would be a file whose mere existence locks, which a killed process leaves for ever.
    lock = FileLock(str(folder / LOCK), is_singleton=True, fallback_to_soft=False)
    _acquire(lock, folder, wait, work)
    first = work is not None and lock.lock_counter == 1
    try:
        if first:
            (folder / HOLDER).write_text(str(work), encoding="utf-8")
        yield
    finally:
        if first:
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _acquire(lock: BaseFileLock, folder: Path, wait: Callable[[], bool] | None, work: str | None) -> None:
    """Take the lock, now or after the wait; UserError if it is not to be had."""
    told, others = False, 0
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)  # another process may just have deleted it
            lock.acquire(timeout=0)
            return
        except Timeout:
            # A process that has just begun, or is about to end, does not say what it does: look once more.
            others = 0 if work is None or _holder(folder) == work else others + 1
            if wait is None or others > 1 or (not others and not wait()):
                raise UserError(f"another attcli works in {folder}; wait for it or stop it first") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise UserError(f"the file system of {folder} knows no locks; choose a folder on another one") from None
        if not told and not others:
            logger.info("another attcli does the same work in {}; waiting for it", folder)
            told = True
        time.sleep(LOOK_SECONDS)


def _holder(folder: Path) -> str | None:
    """What the process that holds a folder says it does there."""
    try:
        return (folder / HOLDER).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
