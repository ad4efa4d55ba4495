"""MLflow: files among the results, unless MLFLOW_TRACKING_URI names a server or a database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attcli.trackers import Place

PACKAGE = "mlflow"

LONGEST = 500
"""Characters that MLflow takes of a parameter's value."""


class _Run:
    def __init__(self, place: Place) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        import mlflow

        if "MLFLOW_TRACKING_URI" not in os.environ:
            mlflow.set_tracking_uri(place.folder.resolve().as_uri())
        mlflow.set_experiment("attcli")
        known = mlflow.search_runs(
            filter_string=f"attributes.run_name = '{place.name}'", max_results=1, output_format="list"
        )
        self._client: Any = mlflow.MlflowClient()
        self._run: Any = mlflow.start_run(run_id=known[0].info.run_id if known else None, run_name=place.name)
        self._mlflow: Any = mlflow
        if known:
            return
        try:
            mlflow.log_params({name: str(value)[:LONGEST] for name, value in place.settings.items()})
        except Exception:
            self.end()  # as the next stage of this process could not start a run while this one is active
            raise

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def end(self) -> None:
        self._mlflow.end_run()


def start(place: Place) -> _Run:
    """A run in the experiment `attcli`."""
    return _Run(place)
