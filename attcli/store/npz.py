"""Archives of arrays that attcli keeps for itself in work folders; a damaged one is noticed, whatever is damaged."""

import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attcli.store import hdf5
from attcli.store.hdf5 import OF_THE_SYSTEM, BadFileError

UNREADABLE = (
    *hdf5.UNREADABLE,
    EOFError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What Python and numpy raise on archives and arrays that are not what they claim."""


def read(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an archive, by name. BadFileError if it is damaged; OSError if it cannot be read now."""
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if name := archive.testzip():  # numpy compares no checksum where it reads a part of an array
                    raise BadFileError(f"the checksum of {name} does not match")
                file.seek(-12, os.SEEK_END)  # where zip says how many entries there are
                if len(archive.namelist()) != int.from_bytes(file.read(2), "little"):
                    raise BadFileError("some of its arrays are missing")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name]) for name in arrays.files}
        except UNREADABLE as error:
            if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
                raise
            raise BadFileError(str(error) or type(error).__name__) from None
