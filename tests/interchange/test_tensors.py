"""Files of torch that are written."""

import errno
import io
from pathlib import Path

import pytest
import torch

from attcli.interchange import tensors


def test_why_a_write_failed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save itself raises a RuntimeError, which says nothing of the disk."""

    class ReadOnly(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.EROFS, "Read-only file system")

    content = [torch.zeros(3)]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda path, mode: ReadOnly())
        with pytest.raises(OSError, match="Read-only file system"):
            tensors.save(tmp_path / "set.pt", content)
