"""HDF5 files that are whole or noticed: careful writing, a seal over all bytes, and opening that trusts nothing.

HDF5 does not survive a write that fails (it may leave a damaged file, or crash when it is closed) nor files that were
made to harm. So it writes through a file object of ours, whose errors are kept and raised afterwards; a finished file
ends with a seal, the SHA-256 of all that stands before it; and a file is opened only after its seal was compared, and
read only where it holds plain arrays.
"""

import errno
import hashlib
import io
import math
import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from attcli import signals
from attcli.errors import UserError

low: Any = h5py
"""h5py with its low-level modules, which its type stubs leave out."""

MAGIC = b"attcli seal\n\0\0\0\0"
SEAL = struct.Struct("<16sQQ32s")
"""Magic, where the bytes begin that are left out, how many they are, and the SHA-256 of all others."""

SIGNATURE = b"\x89HDF\r\n\x1a\n"
BLOCK = 1 << 20
LARGEST_ATTRIBUTE = 4 << 20
MOST_NAMES = 2000
DEEPEST = 4


_NAMES = (
    *("EACCES", "EPERM", "EAGAIN", "EMFILE", "ENFILE", "ENOMEM", "EINTR", "EIO", "ENOLCK"),
    *("ESTALE", "ETIMEDOUT", "EREMOTEIO", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ECONNRESET"),
)
OF_THE_SYSTEM = tuple(getattr(errno, name) for name in _NAMES if hasattr(errno, name))
"""Why a file that may well be whole can't be read now, as errno names it."""


class BadFileError(Exception):
    """What is wrong with a file, in a few words."""


UNREADABLE = (
    BadFileError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    RecursionError,
    MemoryError,
    OverflowError,
)
"""What HDF5 and Python raise on files that are not what they claim."""

SMALL = 10**8
"""Arrays of fewer bytes are read without asking how much memory is free."""


class _Careful(io.RawIOBase):
    """A file whose failed writes raise nothing while HDF5 is at work; `error` is the first of them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def _kept(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except OSError as error:
            self.error = self.error or error

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._kept(lambda: _write_all(self._file, view))
        return view.nbytes

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[:] = data + bytes(len(buffer) - len(data))
        return len(buffer)

    def truncate(self, size: int | None = None) -> int:
        self._kept(lambda: self._file.truncate(size))
        return size or 0

    def flush(self) -> None:
        self._kept(self._file.flush)


@contextmanager
def written(path: Path, unsealed: str | None = None) -> Iterator[h5py.File]:
    """A new HDF5 file at `path` (a temporary name) to fill; on leaving it is complete, checked and sealed.

    The bytes of the dataset `unsealed` are left out of the seal: its rows have digests of their own. OSError, the first
    one that any write met, if it could not be written.
    """
    with path.open("w+b", buffering=0) as raw:
        careful = _Careful(raw)
        try:
            file = low.File(careful, "w", libver="earliest")
            try:
                yield file
                with signals.held():
                    file.flush()
                    start, length = _extent(file, unsealed)
            finally:
                with signals.held():  # an exception in the midst of closing leaves HDF5 unable to close the file at all
                    file.close()
        except (OSError, RuntimeError) as error:
            raise careful.error or error from None
        if careful.error:
            raise careful.error
        raw.seek(0, os.SEEK_END)
        _write_all(raw, memoryview(SEAL.pack(MAGIC, start, length, _digest(raw, raw.tell(), start, length))))


def _write_all(file: Any, data: memoryview) -> None:
    """Write all bytes: the system takes at most 2 GiB in one call, and fewer where the disk gets full."""
    while data:
        data = data[file.write(data) :]


def _extent(file: h5py.File, name: str | None) -> tuple[int, int]:
    """Where the bytes of a contiguous dataset stand."""
    if name is None:
        return 0, 0
    return offset(file[name]), file[name].id.get_storage_size()


def offset(dataset: h5py.Dataset) -> int:
    """The byte of its file at which a contiguous dataset begins; 0 where it has no bytes."""
    identifier: Any = dataset.id  # whose type stubs lack the method
    return int(identifier.get_offset() or 0)


def _digest(file: BinaryIO, size: int, start: int, length: int) -> bytes:
    """The SHA-256 of the first `size` bytes without those of the extent."""
    total = hashlib.sha256(struct.pack("<QQ", start, length))
    for first, end in ((0, start), (start + length, size)):
        file.seek(first)
        left = end - first
        while left > 0:
            block = file.read(min(BLOCK, left))
            if not block:
                raise BadFileError("it is cut short")
            total.update(block)
            left -= len(block)
    return total.digest()


def sealed(path: Path) -> bool:
    """Whether a file ends with a seal, which is compared. BadFileError if it does not fit, or no HDF5 file is there.

    Files of the first schema have none. A pipe or a device is refused before it is opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadFileError("it is no regular file")
    with path.open("rb") as file:
        begin = file.read(len(SIGNATURE))
        if begin != SIGNATURE[: len(begin)]:
            raise BadFileError("it is no HDF5 file")
        size = file.seek(0, os.SEEK_END) - SEAL.size
        if size < len(SIGNATURE):
            raise BadFileError("it is cut short")
        file.seek(size)
        magic, start, length, digest = SEAL.unpack(file.read(SEAL.size))
        if magic != MAGIC:
            return False
        if start + length > size or _digest(file, size, start, length) != digest:
            raise BadFileError("its checksum does not match")
    return True


def attribute(file: h5py.File, name: str) -> Any:
    """An attribute of the file, a string or a whole number. BadFileError if it is missing, too large or another thing.

    Its form is judged before it is read: lists, structures and references are never followed.
    """
    if not low.h5a.exists(file.id, name.encode()):
        raise BadFileError(f"{name} is missing")
    held = low.h5a.open(file.id, name.encode())
    if held.get_storage_size() > LARGEST_ATTRIBUTE:
        raise BadFileError(f"{name} is too large")
    if held.get_space().get_simple_extent_type() != low.h5s.SCALAR:
        raise BadFileError(f"{name} is a list")
    if held.get_type().get_class() not in (low.h5t.STRING, low.h5t.INTEGER):
        raise BadFileError(f"{name} is neither a text nor a number")
    value = file.attrs[name]
    if isinstance(value, (str, bytes)) and len(value) > LARGEST_ATTRIBUTE:
        raise BadFileError(f"{name} is too large")
    return value.decode() if isinstance(value, bytes) else value


def datasets(file: h5py.File, allowed: str, size: int) -> dict[str, h5py.Dataset]:
    """The plain arrays of a file, by name; none is read. BadFileError for anything else.

    Names have to match the pattern `allowed`. Links, data outside the file, virtual datasets, filters, types that are
    no numbers, and arrays that claim more bytes than the file's `size` are refused.
    """
    pattern = re.compile(allowed)
    by_name: dict[str, h5py.Dataset] = {}
    for number, (name, array) in enumerate(_entries(file, ""), start=1):
        if number > MOST_NAMES:  # also where few groups name each other again and again
            raise BadFileError("it holds more than it should")
        if array is None:
            continue
        if not pattern.fullmatch(name):
            raise BadFileError(f"{name} does not belong there")
        by_name[name] = _plain(array, name)
    claimed = sum(dataset.dtype.itemsize * math.prod(dataset.shape) for dataset in by_name.values())
    if claimed > size:
        raise BadFileError(f"its arrays claim {claimed} bytes, it has {size}")
    return by_name


def _entries(group: h5py.Group, prefix: str) -> Iterator[tuple[str, h5py.Dataset | None]]:
    """Each array below a group with its name, and each group with None, as they are met; BadFileError for links."""
    if prefix.count("/") > DEEPEST or group.id.get_num_objs() > MOST_NAMES:
        raise BadFileError("it holds more than it should")
    for index in range(group.id.get_num_objs()):
        raw = group.id.get_objname_by_idx(index)
        name = f"{prefix}{raw.decode(errors='replace')}"
        if group.id.links.get_info(raw).type != low.h5l.TYPE_HARD:
            raise BadFileError(f"{name} is a link")
        kind = group.id.get_objtype_by_idx(index)
        if kind == low.h5g.GROUP:
            yield name, None
            yield from _entries(group[raw], f"{name}/")
        elif kind == low.h5g.DATASET:
            yield name, group[raw]
        else:
            raise BadFileError(f"{name} does not belong there")


def _plain(dataset: h5py.Dataset, name: str) -> h5py.Dataset:
    how = low.h5d.DatasetID.get_create_plist(dataset.id)
    if how.get_layout() == low.h5d.VIRTUAL or how.get_external_count() or how.get_nfilters():
        raise BadFileError(f"{name} is no plain array")
    if dataset.shape is None or dataset.dtype.kind not in "fiu" or not dataset.dtype.isnative or dataset.dtype.shape:
        raise BadFileError(f"{name} holds no plain numbers")
    return dataset


def read(path: Path, arrays: Mapping[str, h5py.Dataset]) -> dict[str, NDArray[Any]]:
    """Whole arrays of a file, by name. UserError where there is too little memory for them."""
    require_memory(path, arrays.values())
    return {name: np.asarray(array[()]) for name, array in arrays.items()}


def require_memory(path: Path, arrays: Iterable[h5py.Dataset]) -> None:
    """UserError where arrays take more memory than is free: a file may be long and yet hardly take room on a disk."""
    needed = sum(array.dtype.itemsize * math.prod(array.shape) for array in arrays)
    if needed < SMALL:
        return
    from attcli import runtime

    if needed > (free := runtime.free_memory()):
        raise UserError(
            f"{path} holds arrays of {needed / 1e9:,.1f} GB, more than the {free / 1e9:,.1f} GB of memory that are "
            f"free; read it where there is more, or name another file"
        )
