"""The commands for records of runs: records add makes one of the results, records list shows those of a folder."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from attcli.cli.bare import Group
from attcli.cli.command import given, reporting, resolve_flags
from attcli.cli.flags import Artifacts, AsJson, switch

REPOSITORYS = Path("benchmarks/records/runs")
ELSEWHERE = Path("records")

HELP = f"""Make a record of a run, or list the records of a folder.

Without a command: list. `attcli records [FOLDER] [--json]`.
Default folder: {REPOSITORYS} if it exists, otherwise {ELSEWHERE}.
More: `attcli records add --help`.
"""
"""The help of the group, as its commands have docstrings."""


class ListByDefault(Group):
    """`records [FOLDER]` is `records list [FOLDER]`: words that begin with no command of the group are the list's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` before words that name no command and ask for no help."""
        if not args:
            args = [] if ctx.resilient_parsing else ["list"]  # a shell that completes the words offers all commands
        elif args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["list", *args]
        return super().parse_args(ctx, args)


Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="FOLDER",
        help=f"Folder of records. Default: {REPOSITORYS} if it exists, otherwise {ELSEWHERE}.",
    ),
]
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The record's name, of letters, digits, dots, hyphens, plus and underscores."),
]
To = Annotated[
    Path | None,
    typer.Option(
        help=f"Folder for the record. Default: {REPOSITORYS} if it exists, otherwise {ELSEWHERE}.",
        show_default=False,
        metavar="FOLDER",
    ),
]
Note = Annotated[
    str,
    typer.Option(help="A sentence that is kept in the record. Default: none.", show_default=False, metavar="TEXT"),
]


def _folder(folder: Path | None) -> Path:
    """The folder that was named, or the one that records lie in."""
    return folder or (REPOSITORYS if REPOSITORYS.is_dir() else ELSEWHERE)


def add(
    name: Name,
    artifacts: Artifacts = None,
    to: To = None,
    note: Note = "",
    force: Annotated[bool, switch("--force", "Replace a record of that name. By default it is kept.")] = False,
) -> None:
    """Make a record of the results: settings, cost, size and scores of the set, and what was published beside it.

    It takes the scores of `attcli evaluate`, and those of `attcli evaluate --snapshots` if there are any.
    """
    with reporting():
        from attcli.records import files, making

        folder = _folder(to)
        files.path_of(folder, name)
        runtime = resolve_flags(given(runtime__artifacts=artifacts), None, None).settings.runtime
        works = [runtime.work_dir, runtime.artifacts.parent / ".attcli"]
        record = making.make(name, runtime.artifacts, works, note)
        typer.echo(files.write(folder, record, force=force))


def list_records(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the records of a folder: size, iterations and ConvNet accuracy of each set, beside the published value."""
    with reporting():
        from attcli.records import files, listing
        from attcli.tables import records_table

        records = files.read_all(_folder(folder))
        if as_json:
            typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=2))
        else:
            typer.echo(records_table([listing.row(record) for record in records]))
