"""TensorBoard: `tensorboard --logdir artifacts/tensorboard` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attcli.trackers import Place

PACKAGE = "tensorboard"


class _Writer:
    def __init__(self, place: Place) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(place.folder / place.stage), flush_secs=30)
        lines = "\n".join(f"    {name}: {value}" for name, value in place.settings.items())
        self._writer.add_text("settings", lines)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def end(self) -> None:
        self._writer.close()


def start(place: Place) -> _Writer:
    """Event files in `tensorboard/STAGE` among the results."""
    return _Writer(place)
