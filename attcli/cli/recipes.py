"""The commands for published settings: recipes, its show and use, and reproduce."""

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attcli.cli.command import given, refuse_json, reporting, run_stage, selectors
from attcli.cli.flags import AsJson, DataDir, Device, DryRun, Force, Set
from attcli.errors import UserError

if TYPE_CHECKING:
    from attcli.stages.run import Run


def list_recipes(context: typer.Context) -> None:
    """List the recipes."""
    if context.invoked_subcommand is None:
        list_all()


def list_all() -> None:
    """List the recipes."""
    with reporting():
        from attcli.settings.recipes import all_recipes

        for name, recipe in all_recipes().items():
            unverified = sum(bool(entry.doubt) for entry in recipe.values.values())
            note = f" ({unverified} unverified value{'s' if unverified > 1 else ''})" if unverified else ""
            typer.echo(f"{name:28}  {recipe.title}{note}")


def show(name: str) -> None:
    """Show a recipe's values, each with its source."""
    with reporting():
        from attcli.settings.recipes import get

        recipe = get(name)
        typer.echo(f"{recipe.name}: {recipe.title}")
        for key, entry in recipe.values.items():
            doubt = f"  UNVERIFIED: {entry.doubt}" if entry.doubt else ""
            typer.echo(f"  {key:26} {json.dumps(entry.value):<12} {entry.source}{doubt}")
        if recipe.published:
            typer.echo(f"  published: {json.dumps(recipe.published)}")


def use(
    name: str,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the params.yaml of this folder.")] = False,
) -> None:
    """Write a complete params.yaml from a recipe."""
    with reporting():
        from attcli.settings.completeness import params_of
        from attcli.settings.layers import PARAMS
        from attcli.settings.recipes import get
        from attcli.store.files import write_text

        if PARAMS.exists() and not force:
            raise UserError(f"{PARAMS} is there already; --force overwrites it")
        write_text(PARAMS, params_of(get(name).name))
        typer.echo(f"wrote {PARAMS} from {name}")


def reproduce(
    name: Annotated[str, typer.Argument(metavar="recipe", help="A recipe, as `attcli recipes` lists them.")],
    sets: Set = None,
    seed: Annotated[int | None, typer.Option(help="Default of all stages' seeds.")] = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Annotated[Path | None, typer.Option(help="Where results go; default: reproduced/<recipe>.")] = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe from nothing to its score beside the published one; --dry-run says what that costs."""
    with reporting():
        from attcli.settings.layers import assignment
        from attcli.settings.recipes import get

        recipe = get(name)
        refuse_json(dry_run, as_json)
        named, own = dict(assignment(text) for text in sets or []), selectors(recipe.name)
        for key in named.keys() & own.keys():
            if named[key] != own[key]:
                raise UserError(f"{name} decides {key}; choose another recipe, or run `attcli evaluate` with --set")
        elsewhere = artifacts or (None if "runtime.artifacts" in named else Path("reproduced") / recipe.name)
        flags = given(
            seed=seed,
            runtime__device=device,
            runtime__data_dir=data_dir,
            runtime__artifacts=elsewhere,
        )

        def act(pipeline: ModuleType, run: "Run") -> Any:
            pipeline.distill(run)
            return pipeline.evaluate(run)

        report = run_stage("evaluate", flags, sets, None, dry_run=dry_run, recipe=recipe.name, act=act, force=force)
        if report is not None:
            from attcli.tables import beside_published, scores_table

            if as_json:
                typer.echo(json.dumps({**report, "published": recipe.published}, indent=2))
            else:
                typer.echo(scores_table(report) + "\n" + beside_published(report, recipe.published))
