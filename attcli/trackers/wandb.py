"""Weights & Biases: offline, unless WANDB_MODE says otherwise; `wandb sync` uploads later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attcli.trackers import Place

PACKAGE = "wandb"


class _Run:
    def __init__(self, place: Place) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "attcli"),
            name=place.name,
            id=hashlib.sha256(place.name.encode()).hexdigest()[:16],
            resume="allow",
            job_type=place.stage,
            dir=str(place.folder),
            config=dict(place.settings),
            mode=mode,
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def end(self) -> None:
        self._run.finish()


def start(place: Place) -> _Run:
    """A run in `wandb/` among the results."""
    return _Run(place)
