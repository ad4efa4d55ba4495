"""Files of torch.save, read with care: nothing in them is executed, and nothing is allocated that they only claim.

Before torch sees a file, its archive is checked (no compression, no entry that claims more than the file has, and every
checksum, which torch leaves unread) and the instructions of its pickle are read through, not run: they may name
tensors, their storages, and nothing else. Then it is mapped into memory, so that what is not used is not held.
"""

from __future__ import annotations

import hashlib
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from attcli.errors import UserError
from attcli.interchange import details

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_PICKLE = 64 << 20
"""Bytes of the instructions of a file, without its numbers: a hundred experts of a hundred epochs take some 20 MB."""

HARMLESS = re.compile(
    r"torch\._utils _rebuild_(tensor_v2|parameter)|collections OrderedDict"
    r"|torch (Double|Float|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage|torch\.storage UntypedStorage"
)
"""What the pickle of a file of tensors names."""

PROTOCOL = 2
"""The pickle protocol of torch.save."""

NESTING = ("SETITEM", "SETITEMS", "ADDITEMS", "FROZENSET", "BUILD", "NEXT_BUFFER", "OBJ", "NEWOBJ", "NEWOBJ_EX")
"""Instructions that lists of tensors do not need: entries of dictionaries and sets, and the making of other objects.

A key of a dictionary is hashed, and the hash of tuples that lie in each other deeply overflows the stack.
"""

NAMING = ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
BLOCK = 1 << 20


def load(path: Path) -> Any:
    """What torch.save wrote: tensors, numbers, and lists of them, on the CPU, mapped from the file.

    UserError where it is anything else, damaged, or cut short.
    """
    _check(path)
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever instructions that were tampered with make torch raise
        raise _damaged(path, details(error)) from None


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged, or no file of torch.save ({reason}); get it again, or name another one")


def _check(path: Path) -> None:
    """UserError unless a file is an archive as torch.save writes it, and its pickle names tensors alone."""
    if not path.is_file():
        raise UserError(f"{path} is {'no file' if path.exists() else 'missing'}; name a file of torch.save")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len({entry.filename.casefold() for entry in entries}) < len(entries):
                raise _damaged(path, "two of its parts have one name")  # of which torch might read the other one
            packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise _damaged(path, "its parts claim more than it has")
            pickles = [entry for entry in entries if entry.filename.rpartition("/")[2].casefold() == "data.pkl"]
            if len(pickles) != 1 or pickles[0].file_size > LARGEST_PICKLE:
                raise _damaged(path, "it has no list of its tensors, or one that is too long")
            if (broken := archive.testzip()) is not None:
                raise _damaged(path, f"{broken[:80]} does not match its checksum")
            instructions = archive.read(pickles[0])
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise _damaged(path, f"{details(error)}; files of torch before 1.6 have to be saved anew") from None
    _check_pickle(path, instructions)


def _check_pickle(path: Path, instructions: bytes) -> None:
    """UserError where instructions name something that tensors do not need. They are only read."""
    try:
        for operation, argument, _ in pickletools.genops(instructions):
            if operation.name == "PROTO" and argument != PROTOCOL:
                raise _damaged(path, f"its pickle is of protocol {argument}, not {PROTOCOL}")
            if operation.name in NAMING and not (operation.name == "GLOBAL" and HARMLESS.fullmatch(str(argument))):
                name = str(argument or "something").replace(" ", ".")[:80]
                raise UserError(
                    f"{path} asks for {name}, which a file of tensors does not need and which could run code; nothing "
                    f"in it was run; use a file that holds tensors alone"
                )
            if operation.name in NESTING:
                raise _damaged(path, f"its pickle has the instruction {operation.name}, which lists of tensors lack")
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise _damaged(path, details(error)) from None


def tensor(path: Path, value: Any, what: str, dimensions: Iterable[int]) -> Tensor:
    """`value`, if it is a plain tensor with so many dimensions whose numbers all lie in the file; else a UserError."""
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized:
        raise UserError(f"{path} holds no tensor of {what}; name another file")
    if value.ndim not in dimensions:
        raise UserError(f"{path} holds {what} of shape {tuple(value.shape)}, which is not theirs; name another file")
    if value.device.type != "cpu" or not _inside(value) or value.numel() * value.element_size() > path.stat().st_size:
        raise _damaged(path, f"its {what} claim more numbers than it has")
    return value.detach()


def _inside(value: Tensor) -> bool:
    """Whether all numbers of a tensor lie within its storage."""
    if not value.numel():
        return True
    last = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
    end = (value.storage_offset() + last + 1) * value.element_size()
    return int(value.storage_offset()) >= 0 and int(end) <= value.untyped_storage().nbytes()


def digest(path: Path) -> bytes:
    """The SHA-256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.digest()


class _Watched:
    """A file that remembers why a write failed: torch.save says only that it did."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def save(path: Path, content: Any) -> None:
    """Write what others read with torch.load; whole, or not at all. OSError where it cannot be written."""
    import torch

    from attcli.atomic import atomic

    with atomic(path) as temporary, temporary.open("wb") as file:
        watched = _Watched(file)  # not a path, whose name torch.save would put into the file
        try:
            torch.save(content, cast("IO[bytes]", watched))
        except RuntimeError:
            if watched.error is None:
                raise
            raise watched.error from None


def every(values: Any, kind: type | tuple[type, ...], problem: Callable[[], UserError]) -> list[Any]:
    """`values`, if they are a list whose members are of that kind; else the problem."""
    if not isinstance(values, (list, tuple)) or not values or not all(isinstance(value, kind) for value in values):
        raise problem()
    return list(values)
