"""The commands for experts that are there: compact makes them smaller."""

from pathlib import Path
from typing import Annotated

import typer

from attcli.cli.command import given, refuse_missing, reporting, resolve_flags
from attcli.cli.flags import COUNT, switch

HELP = "Work with experts that are there."
"""The help of the group."""

WAYPOINTS = 4
"""As in MCT's released commands."""


def compact(
    to: Annotated[
        Path,
        typer.Option(
            "--to", help="Folder of results that the compact experts belong to. There is no default.", metavar="FOLDER"
        ),
    ],
    source: Annotated[
        Path | None,
        typer.Argument(metavar="EXPERTS", help="A folder of experts. Default: the results' own, artifacts/experts."),
    ] = None,
    waypoints: Annotated[
        int, typer.Option(help=f"How many networks of each expert are kept. Default: {WAYPOINTS}.", **COUNT)
    ] = WAYPOINTS,
    force: Annotated[
        bool, switch("--force", "Overwrite experts that were made with other settings. By default they are kept.")
    ] = False,
) -> None:
    """Write experts compactly (MCT): a few networks of each, and how far it was between them after every epoch.

    With 4 networks of 51 a file is about 12 times smaller. Distilling reads it like any other, with
    `--set buffer.waypoints=4`; the networks between those that are kept are then on straight lines.

    The experts themselves stay as they are.
    """
    with reporting():
        refuse_missing(source)
        own = resolve_flags({}, None, None).settings.runtime.artifacts / "experts"
        settings = resolve_flags(given(runtime__artifacts=to), None, None).settings
        from attcli import progress
        from attcli.errors import UserError
        from attcli.stages import compacting
        from attcli.stages.run import Run
        from attcli.store.files import writable

        if waypoints < 2:
            raise UserError(f"--waypoints {waypoints}: the first and the last network are 2; say at least 2")
        progress.configure(settings.runtime.verbosity)
        writable(to, "--to")
        typer.echo(compacting.run(Run(settings, force=force), source or own, waypoints))
