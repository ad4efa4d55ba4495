"""The commands for reports: report makes the page of one run, compare puts several on one page."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from attcli.cli.command import complain, given, reporting, resolve_flags
from attcli.cli.flags import Artifacts, AsJson, switch
from attcli.errors import optional

FOLDER, COMPARISONS = "report", Path("comparison")


def report(
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder to write to. Default: {FOLDER}, in the results' folder.", show_default=False, metavar="FOLDER"
        ),
    ] = None,
    show: Annotated[bool, switch("--open", "Show the page in the browser when it is written.")] = False,
    as_json: AsJson = False,
    artifacts: Artifacts = None,
) -> None:
    """Make one HTML page of the results: images, scores, losses, sizes, times, settings and commands.

    The page needs no other file and no network, so it can be sent and published as it is. Beside it are its plots as
    PNG and SVG, and its data as JSON, which `attcli compare` reads too.
    """
    with reporting():
        optional("matplotlib.figure", "plots", "reports")
        from attcli.report import files, gather, page, plots
        from attcli.store.files import writable

        resolved = resolve_flags(given(runtime__artifacts=artifacts), None, None)
        runtime = resolved.settings.runtime
        folder = out or runtime.artifacts / FOLDER
        writable(folder, "--out")
        works = [runtime.work_dir, runtime.artifacts.parent / ".attcli"]
        facts = gather.facts(runtime.artifacts, works, here=resolved)
        drawn = plots.of_run(facts)
        written = files.write(folder, files.PAGE, page.of_run(facts, drawn), drawn, facts)
        for sentence in facts.missing:
            complain(f"attcli: {sentence}")
        _tell(written, facts.model_dump_json(indent=2) if as_json else "", show)


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders of results, or data of their reports (report.json); two or more."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder to write to. Default: {COMPARISONS}.",
            show_default=False,
            metavar="FOLDER",
        ),
    ] = None,
    show: Annotated[bool, switch("--open", "Show the page in the browser when it is written.")] = False,
) -> None:
    """Make one HTML page of several runs, side by side: scores, losses, images, sizes, times, and what differs."""
    with reporting():
        optional("matplotlib.figure", "plots", "comparisons")
        from attcli.report import comparison, files
        from attcli.store.files import writable

        folder = out or COMPARISONS
        writable(folder, "--out")
        runtime = resolve_flags({}, None, None).settings.runtime
        facts = comparison.gathered(runs, [runtime.work_dir])
        drawn = comparison.plots_of(facts)
        written = files.write(folder, files.COMPARISON, comparison.page_of(facts, drawn), drawn)
        for each in facts:
            for sentence in each.missing:
                complain(f"attcli: {each.name}: {sentence}")
        _tell(written, "", show)


def _tell(written: list[Path], data: str, show: bool) -> None:
    """Print the files, or the data instead; show the page where that is asked for."""
    typer.echo(data or "\n".join(map(str, written)))
    if show:
        webbrowser.open(written[0].resolve().as_uri())
