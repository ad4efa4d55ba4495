"""The commands for published settings: recipes with its list, show, diff, validate and use, and reproduce."""

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attcli.cli import USER_ERROR, completion
from attcli.cli.command import begin_log, given, refuse_json, refuse_missing, reporting, run_stage, seconds, selectors
from attcli.cli.flags import COUNT, AsJson, DataDir, Device, DryRun, Force, Set, TimeLimit, how, switch, what
from attcli.errors import OutOfTimeError, UserError

if TYPE_CHECKING:
    from attcli.stages.run import Run


OfDataset = Annotated[
    str | None,
    typer.Option(help="Only those for this dataset. Default: all.", metavar="NAME", autocompletion=completion.datasets),
]
OfMethod = Annotated[
    str | None,
    typer.Option(help="Only those of this method. Default: all.", metavar="NAME", autocompletion=completion.methods),
]
OfIpc = Annotated[int | None, typer.Option(help="Only those for this many images per class. Default: all.", **COUNT)]
Name = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe's name, such as att/cifar10/ipc10; `attcli recipes` lists them.",
        autocompletion=completion.recipes,
    ),
]


def list_recipes(
    context: typer.Context,
    dataset: OfDataset = None,
    method: OfMethod = None,
    ipc: OfIpc = None,
    as_json: AsJson = False,
) -> None:
    """List the published settings, show one with its sources, compare two, or use one.

    Each value has a source. One that could not be checked against its publication is called unverified.
    """
    if context.invoked_subcommand is None:
        list_all(dataset, method, ipc, as_json)
    elif dataset or method or ipc or as_json:
        with reporting():
            raise UserError(f"put flags behind the command: `attcli recipes {context.invoked_subcommand} …`")


def list_all(dataset: OfDataset = None, method: OfMethod = None, ipc: OfIpc = None, as_json: AsJson = False) -> None:
    """List the recipes: published accuracy, how many values are unverified, and what a run takes."""
    with reporting():
        listed = _listed(dataset, method, ipc)
        if as_json:
            typer.echo(json.dumps(listed, indent=2))
            return
        from attcli.tables import recipes_table

        typer.echo(recipes_table(listed))


def _listed(dataset: str | None, method: str | None, ipc: int | None) -> list[dict[str, Any]]:
    """The recipes for a dataset, of a method and for an ipc, or all. UserError where there are none."""
    from attcli import registry
    from attcli.settings.recipes import all_recipes
    from attcli.settings.spelling import canonical

    wanted: dict[str, Any] = {"method": method, "dataset": dataset}
    for kind, name in wanted.items():
        if name is not None:
            setting = registry.KINDS[kind].setting
            wanted[kind] = registry.known(kind, canonical(setting, name), registry.names(kind))
    wanted["ipc"] = ipc
    listed = [
        {
            "name": name,
            "title": recipe.title,
            "unverified": sum(bool(entry.doubt) for entry in recipe.values.values()),
            "published": recipe.published,
            "needs": _needs(name),
        }
        for name, recipe in all_recipes().items()
        if all(part in (None, getattr(recipe.experiment, kind)) for kind, part in wanted.items())
    ]
    if not listed:
        asked = " and ".join(f"{kind} {value}" for kind, value in wanted.items() if value is not None)
        raise UserError(f"there is no recipe for {asked}; `attcli recipes` lists all")
    return listed


def _needs(name: str) -> dict[str, Any]:
    """What a run of a recipe takes: bytes to download (None: images of one's own), experts, epochs, iterations.

    Of experts and their epochs there are 0 where distilling reads none.
    """
    from attcli import registry
    from attcli.settings.comparison import of_recipe

    settings = of_recipe(name).settings
    return {
        "download": registry.dataset(settings.prepare.dataset).download,
        "experts": settings.buffer.experts if settings.reads_experts else 0,
        "epochs": settings.epochs if settings.reads_experts else 0,
        "iterations": settings.distill.iterations,
    }


def show(name: Name, as_json: AsJson = False) -> None:
    """Show a recipe's values, each with its source; those that could not be checked are marked."""
    with reporting():
        from attcli.settings.recipes import get
        from attcli.tables import recipe_text

        recipe = get(name)
        if as_json:
            values = {
                key: {"value": entry.value, "source": entry.source, "unverified": entry.doubt}
                for key, entry in recipe.values.items()
            }
            typer.echo(json.dumps({"name": recipe.name, "values": values, "published": recipe.published}, indent=2))
            return
        typer.echo(recipe_text(recipe))


def diff(
    first: Name,
    second: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Another recipe's name.", autocompletion=completion.recipes)
    ],
    as_json: AsJson = False,
) -> None:
    """Show the settings in which two recipes differ, each value with its source."""
    with reporting():
        from attcli.settings.comparison import recipes_differ
        from attcli.settings.recipes import get

        names = [get(name).name for name in (first, second)]
        sides = recipes_differ(*names)
        if as_json:
            content = {
                key: {name: side._asdict() for name, side in zip(names, pair, strict=True)}
                for key, pair in sides.items()
            }
            typer.echo(json.dumps(content, indent=2))
        elif sides:
            from attcli.tables import sides_table

            typer.echo(sides_table(sides, *names))
        else:
            typer.echo(f"{names[0]} and {names[1]} have the same settings")


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Files of recipes. Default: attcli's own.")
    ] = None,
) -> None:
    """Check files of recipes, and print each mistake in a line of its own.

    Mistakes are unknown settings, values that a setting does not take, settings that do not go together, and values
    without a source. The exit code is 2 if there is one.
    """
    with reporting():
        from attcli.settings.recipe_files import own_files, problems

        checked = files or own_files()
        mistakes = [line for path in checked for line in problems(path)]
        for line in mistakes:
            typer.echo(line)
        if mistakes:
            raise typer.Exit(USER_ERROR)
        typer.echo(f"no mistakes in {len(checked)} file{'' if len(checked) == 1 else 's'}")


def use(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe's name, such as att/cifar10/ipc10; `attcli recipes` lists them. Or the file of a distilled "
            "set, such as found/synthetic.h5: the settings that it was made with are written.",
            autocompletion=completion.recipes,
        ),
    ],
    data_dir: Annotated[
        Path | None,
        how("For a set of images of your own: the folder of these images. Default: data.", metavar="FOLDER"),
    ] = None,
    force: Annotated[
        bool, switch("--force", "Overwrite the params.yaml of this folder. By default it is kept.")
    ] = False,
) -> None:
    """Write a recipe's settings to a complete params.yaml in this folder, which then decides all settings here.

    From the file of a distilled set, the settings that it was made with are written, so that `attcli distill` makes it
    again.
    """
    with reporting():
        from attcli.settings.layers import PARAMS
        from attcli.store.files import write_text

        if PARAMS.exists() and not force:
            raise UserError(
                f"{PARAMS} is there already; work in another folder, or add --force, "
                "which replaces what you wrote into it"
            )
        write_text(PARAMS, _params(name, data_dir))
        typer.echo(f"wrote {PARAMS} from {name}")


def _params(name: str, data_dir: Path | None) -> str:
    """The text of a params.yaml for a recipe, or with what a set was made with."""
    from attcli.settings.completeness import complete, params_of
    from attcli.settings.recipes import all_recipes, get

    path = Path(name)
    if name not in all_recipes() and path.is_dir():
        raise UserError(f"{path} is a folder; name the set's file in it, such as {path / 'synthetic.h5'}")
    if path.suffix != ".h5" and not path.is_file():
        recipe = get(name).name
        if data_dir is not None:
            raise UserError("--data-dir is for a set's file; leave it out")
        return params_of(recipe)
    refuse_missing(path)
    begin_log(None)
    from attcli.stages.settings_of_a_set import of_set

    return complete(
        of_set(path, data_dir), f"the settings that {path} was made with; its file does not say which networks score it"
    )


def reproduce(
    name: Name,
    sets: Set = None,
    seed: Annotated[int | None, what("Seed of all stages. Default: 0.", **COUNT)] = None,
    time_limit: TimeLimit = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Annotated[
        Path | None, how("Folder for results. Default: reproduced/ and the recipe's name.", metavar="FOLDER")
    ] = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Run all stages by a recipe, and print its score beside the published one.

    No params.yaml is read. With --dry-run it only says what that costs.
    """
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
            if run.out_of_time() and not pipeline.is_done(run, "distill"):
                raise OutOfTimeError("the set is not distilled yet")
            return pipeline.evaluate(run)

        options: dict[str, Any] = {
            "recipe": recipe.name,
            "force": force,
            "time_limit": None if time_limit is None else seconds(time_limit, "--time-limit"),
        }
        report = run_stage("evaluate", flags, sets, None, dry_run=dry_run, act=act, **options)
        if report is not None:
            from attcli.tables import beside_published, scores_table

            if as_json:
                typer.echo(json.dumps({**report, "published": recipe.published}, indent=2))
            else:
                typer.echo(scores_table(report) + "\n" + beside_published(report, recipe.published))
