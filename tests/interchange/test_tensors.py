"""Files of torch that are written."""

import errno
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from attcli.interchange import tensors


@pytest.mark.parametrize("fine", range(8))
def test_why_a_write_failed_is_told(fine: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save itself mostly raises a RuntimeError, which says nothing of the disk."""

    class ReadOnly(io.BytesIO):
        written = 0

        def write(self, data: Any) -> int:
            self.written += 1
            if self.written > fine:
                raise OSError(errno.EROFS, "Read-only file system")
            return super().write(data)

    content = [torch.zeros(3)]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda path, mode: ReadOnly())
        with pytest.raises(OSError, match="Read-only file system"):
            tensors.save(tmp_path / "set.pt", content)
