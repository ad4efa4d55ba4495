"""A process that holds a folder."""

import time
from pathlib import Path

from attcli.store.files import locked


def hold(folder: str, begun: str, until: str) -> None:
    """Hold a folder in another process until a file is there."""
    with locked(Path(folder)):
        Path(begun).touch()
        while not Path(until).exists():
            time.sleep(0.01)
