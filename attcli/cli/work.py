"""The command that lists and deletes kept work."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from attcli.cli import completion
from attcli.cli.command import given, reporting, resolve_flags, seconds
from attcli.cli.flags import Artifacts, AsJson, switch
from attcli.errors import UserError


def work(
    fingerprints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FINGERPRINT", help="Only work with these fingerprints; the first characters of one are enough."
        ),
    ] = None,
    prune: Annotated[bool, switch("--prune", "Delete the work that is named or selected, after asking.")] = False,
    stage: Annotated[
        str | None,
        typer.Option(
            help="Only work of this stage. Default: all stages.", show_default=False, autocompletion=completion.stages
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            help="Only work that has not changed for such a time, as 7d. Default: of any age.",
            show_default=False,
            metavar="TIME",
        ),
    ] = None,
    unused: Annotated[
        bool, switch("--unused", "Only work that no result is linked to. Unfinished work and kept scores are among it.")
    ] = False,
    yes: Annotated[bool, switch("--yes", "Delete without asking.")] = False,
    artifacts: Artifacts = None,
    as_json: AsJson = False,
) -> None:
    """List the work that is kept to be continued or used again, or delete some of it with --prune."""
    with reporting():
        from rich.filesize import decimal

        from attcli.stages import work as stage_work
        from attcli.stages.run import Run

        if yes and not prune:
            raise UserError("--yes goes with --prune; alone, `attcli work` only lists")
        if as_json and prune:
            raise UserError("--json goes with the list alone; leave it out, or leave out --prune")
        if prune and not (fingerprints or stage or older_than or unused):
            raise UserError("--prune deletes what you name: fingerprints, --stage, --older-than 7d or --unused")
        if stage not in (None, *completion.KEPT):
            raise UserError(f"--stage {stage}: choose {', '.join(completion.KEPT[:-1])} or {completion.KEPT[-1]}")
        run = Run(resolve_flags(given(runtime__artifacts=artifacts), None, None).settings)
        age = None if older_than is None else seconds(older_than, "--older-than")
        works = stage_work.chosen(stage_work.listed(run), fingerprints or [], age, unused, stage)
        if as_json:
            typer.echo(stage_work.as_json(works))
            return
        for kept in works:
            note = ", used by the results" if kept.used else ""
            days = f"{kept.age / 86_400:.1f} days"
            typer.echo(f"{kept.stage:9} {kept.fingerprint}  {decimal(kept.size):>9}  {days:>11}  {kept.what}{note}")
        total = sum(kept.size for kept in works)
        if not prune:
            typer.echo(f"{len(works)} folders in {Path(run.settings.runtime.work_dir)}, {decimal(total)} in all")
            return
        if not yes and not (sys.stdin.isatty() and typer.confirm(f"Delete these {len(works)} folders?")):
            raise UserError("nothing was deleted; --yes deletes without asking")
        deleted, held = stage_work.prune(works)
        freed = sum(kept.size for kept in deleted if not kept.used)
        typer.echo(f"deleted {len(deleted)} folders; {decimal(freed)} are free (what the results use stays there)")
        for kept in held:
            typer.echo(f"{kept.folder} stays: another attcli works in it", err=True)
