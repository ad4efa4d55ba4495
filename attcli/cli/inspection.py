"""The commands that only look: config at the settings, diagnose at a run's history."""

import json
from pathlib import Path
from typing import Annotated

import typer

from attcli.cli.command import given, reporting, resolve_flags
from attcli.cli.flags import Artifacts, AsJson, Dataset, Ipc, Method, Params, Set
from attcli.errors import UserError


def config(
    as_json: AsJson = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the settings' JSON schema.")] = False,
    sets: Set = None,
    params: Params = None,
    dataset: Dataset = None,
    method: Method = None,
    ipc: Ipc = None,
) -> None:
    """Print every setting with its value and where that came from."""
    with reporting():
        from attcli.settings import Settings
        from attcli.settings.layers import values_of

        if schema:
            typer.echo(json.dumps(Settings.model_json_schema(), indent=2))
            return
        flags = given(prepare__dataset=dataset, distill__method=method, distill__ipc=ipc)
        resolved = resolve_flags(flags, sets, params)
        values = values_of(resolved.settings)
        if as_json:
            listed = {name: {"value": value, "from": resolved.origin[name]} for name, value in values.items()}
            typer.echo(json.dumps(listed, indent=2))
            return
        width = max(map(len, values))
        for name, value in values.items():
            typer.echo(f"{name:{width}}  {json.dumps(value):<40}  {resolved.origin[name]}")


def diagnose(
    file: Annotated[Path | None, typer.Argument(help="A run's history.h5; default: the results' own.")] = None,
    metric: Annotated[str | None, typer.Option(help="Distance: l1 or l2; default: the run's own.")] = None,
    gammas: Annotated[
        str, typer.Option(help="Count a mismatch when the nearest step misses the last by at least this many steps.")
    ] = "5,10,20,40",
    every: Annotated[int, typer.Option(help="Block size in iterations.")] = 50,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: diagnosis beside the history.")] = None,
    artifacts: Artifacts = None,
) -> None:
    """Draw how far the student's steps are from fitting the experts': PNG, SVG, and the data as CSV."""
    with reporting():
        from attcli.stages import diagnose as stage

        if metric not in (None, "l1", "l2"):
            raise UserError(f"--metric {metric}: choose l1 or l2")
        if not all(part.strip().isdigit() for part in gammas.split(",")):
            raise UserError(f"--gammas {gammas}: write whole numbers, as 5,10,20")
        resolved = resolve_flags(given(runtime__artifacts=artifacts), None, None)
        history = file or resolved.settings.runtime.artifacts / "history.h5"
        chosen = [int(part) for part in gammas.split(",")]
        written = stage.run(history, out or history.parent / "diagnosis", metric, chosen, every)
        for line in (*written.sentences, *written.files):
            typer.echo(str(line))
