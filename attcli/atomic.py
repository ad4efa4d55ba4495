"""Files that are there whole or not at all."""

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

TEMPORARY = ".tmp"

MADE = "[a-z0-9_]" * 8
"""What `tempfile` puts into a name, as a pattern."""

_SETTING_UMASK = threading.Lock()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; on leaving, it is synced to the disk and renamed to `path`.

    Whatever goes wrong, nothing damaged has the name `path`. OSError names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    temporary = Path(name)
    try:
        with suppress(OSError):  # file systems without locks
            fcntl.flock(handle, fcntl.LOCK_SH)  # until this process ends: see `sweep_killed`
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's file mode mask.

    Where the system does not tell it, it can only be read by setting it, which one thread at a time may do.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    with _SETTING_UMASK:
        mask = os.umask(0)
        os.umask(mask)
    return mask


def sweep(folder: Path, pattern: str = "*") -> None:
    """Remove what killed processes had begun to write in `folder`, where others may write meanwhile.

    pattern: of the names that were being written. Folders in it are left alone.
    """
    for temporary in folder.glob(f".{pattern}.{MADE}{TEMPORARY}"):
        with suppress(OSError), temporary.open("r+b") as file:  # NFS locks only what may be written
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error where somebody writes it
            temporary.unlink(missing_ok=True)


def sweep_killed(path: Path) -> None:
    """Remove what killed processes had begun to write as `path`, where others may write meanwhile."""
    sweep(path.parent, escape(path.name))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
