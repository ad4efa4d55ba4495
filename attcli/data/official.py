"""Datasets through torchvision: read where they lie, or else downloaded there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attcli import container
from attcli.errors import UserError


def parts(name: str, data_dir: Path, base: str, make: Callable[[bool, bool], Any]) -> tuple[Any, Any]:
    """Torchvision's training and test part: `make(train, download)` for each.

    `base` is what the dataset's folder or files are called. UserError where they are neither there nor to be had.
    """
    both = []
    for train in (True, False):
        try:
            try:
                part = make(train, False)
            except RuntimeError:
                part = make(train, True)
        except Exception as error:  # damaged files raise anything
            is_there = any((data_dir / word).exists() for word in base.split())
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{name} is {'incomplete or damaged' if is_there else 'not'} in {data_dir} and could not be downloaded "
                f"({reason}); put its whole {base} there or name its parent with --data-dir{_mounting(data_dir)}"
            ) from None
        both.append(part)
    return both[0], both[1]


def _mounting(data_dir: Path) -> str:
    """How a container gets a folder of the host."""
    if container.kind() is None:
        return ""
    return f"; in a container, mount that parent: docker run -v /its/parent:{data_dir.absolute()}:ro"
