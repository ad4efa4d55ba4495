"""DVCLive: metrics and plots in files, which DVC and its extension for VS Code show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attcli.trackers import Place

PACKAGE = "dvclive"


class _Live:
    def __init__(self, place: Place) -> None:
        from dvclive import Live

        # DVC's own files are the user's: no experiment is saved, no dvc.yaml is written.
        self._live: Any = Live(
            dir=str(place.folder / place.stage), resume=True, save_dvc_exp=False, dvcyaml=None, monitor_system=False
        )
        self._live.log_params(
            {
                name: value if isinstance(value, int | float | bool) else str(value)
                for name, value in place.settings.items()
            }
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()

    def end(self) -> None:
        self._live.end()


def start(place: Place) -> _Live:
    """Files in `dvclive/STAGE` among the results."""
    return _Live(place)
