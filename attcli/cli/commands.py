"""All commands under one name. Imports no torch before a stage runs, so that --help answers at once."""

from typing import Annotated

import typer

from attcli import __version__
from attcli.cli import inspection, recipes, stages, work
from attcli.cli.command import reporting

app = typer.Typer(
    name="attcli",
    help="Distil an image dataset into a tiny synthetic one that trains networks almost as well.",
    epilog="Exit codes: 0 done, 2 something for you to fix, 75 stopped by --time-limit, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
recipes_app = typer.Typer(help="Published settings: list, show or use them.", invoke_without_command=True)
app.command()(stages.prepare)
app.command()(stages.buffer)
app.command()(stages.distill)
app.command()(stages.evaluate)
app.command()(inspection.diagnose)
app.command()(recipes.reproduce)
app.command()(inspection.config)
app.command()(work.work)
app.add_typer(recipes_app, name="recipes")
recipes_app.callback()(recipes.list_recipes)
recipes_app.command("list")(recipes.list_all)
recipes_app.command("show")(recipes.show)
recipes_app.command("use")(recipes.use)


def _version(value: bool) -> None:
    if value:
        with reporting():
            typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
