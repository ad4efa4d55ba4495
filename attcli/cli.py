"""The command line: flags become settings, and a stage is called. Imports no torch, so that --help answers at once."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attcli import __version__
from attcli.errors import UserError

if TYPE_CHECKING:
    from attcli.settings import Resolved
    from attcli.stages.run import Run

USER_ERROR = 2
INTERRUPTED = 130

app = typer.Typer(
    name="attcli",
    help="Distil an image dataset into a tiny synthetic one that trains networks almost as well.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
recipes_app = typer.Typer(help="Published settings: list, show or use them.", invoke_without_command=True)
app.add_typer(recipes_app, name="recipes")

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as `attcli config` names it.")
]
Params = Annotated[Path | None, typer.Option(help="Read this instead of ./params.yaml.", show_default=False)]
Dataset = Annotated[str | None, typer.Option(help="Dataset: prepare.dataset.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N: runtime.device.")]
DataDir = Annotated[Path | None, typer.Option(help="Where datasets lie: runtime.data_dir.")]
Artifacts = Annotated[Path | None, typer.Option(help="Where results are written: runtime.artifacts.")]
Seed = Annotated[int | None, typer.Option(help="Default of every stage's seed: seed.")]
Ipc = Annotated[int | None, typer.Option(help="Images per class: distill.ipc.")]
Method = Annotated[str | None, typer.Option(help="Matching method: distill.method.")]
ExpertCount = Annotated[int | None, typer.Option(help="Number of experts: buffer.experts.")]
Iterations = Annotated[int | None, typer.Option(help="Updates, exactly: distill.iterations.")]
Epochs = Annotated[str | None, typer.Option(help="Epochs an expert, or auto: buffer.epochs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run, what is there and what disk it takes.")]
NoAuto = Annotated[bool, typer.Option("--no-auto", help="Do not make missing inputs.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite results of other settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def _reporting() -> Iterator[None]:
    """Exit code 2 and one line for what is the user's to mend, 130 for an interruption."""
    try:
        yield
    except UserError as error:
        typer.echo(f"attcli: {error}", err=True)
        raise typer.Exit(USER_ERROR) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush fails nowhere
        raise typer.Exit(0) from None
    except OSError as error:
        if error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(f"attcli: {place}{error.strerror}; mend that and run it again: what was finished is kept", err=True)
        raise typer.Exit(USER_ERROR) from None
    except KeyboardInterrupt:
        typer.echo("attcli: interrupted; what is done is saved, run it again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _given(**flags: Any) -> dict[str, Any]:
    """Flags that were given, under their settings' dotted names."""
    return {name.replace("__", "."): value for name, value in flags.items() if value is not None}


def _selectors(name: str) -> dict[str, Any]:
    """The settings that a recipe's name `method/dataset/ipcN` decides."""
    method, dataset, ipc = name.split("/")
    return {"distill.method": method, "prepare.dataset": dataset, "distill.ipc": int(ipc.removeprefix("ipc"))}


def _resolve(
    flags: dict[str, Any], sets: list[str] | None, params: Path | None, recipe: str | None = None
) -> "Resolved":
    """The settings. With a recipe's name, those of it alone: params.yaml is not read."""
    from attcli.settings import resolve
    from attcli.settings.layers import assignment

    plain = {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
    if recipe:
        plain = {**_selectors(recipe), **plain}
    given = {**dict(assignment(text) for text in sets or []), **plain}
    return resolve(given, params, recipe=recipe, ignore_params=recipe is not None)


def _stage(
    name: str,
    flags: dict[str, Any],
    sets: list[str] | None,
    params: Path | None,
    *,
    dry_run: bool = False,
    recipe: str | None = None,
    act: Callable[[ModuleType, "Run"], Any] = lambda stage, run: stage.run(run),
    **options: Any,
) -> Any:
    """Resolve the settings, set the machine up and run a stage, or print what it would do.

    Settings are checked before torch is loaded, so that a mistake is told at once.
    """
    from attcli.settings.completeness import check_under_dvc
    from attcli.settings.layers import PARAMS

    resolved = _resolve(flags, sets, params, recipe)
    check_under_dvc(resolved)
    from loguru import logger

    from attcli import progress, runtime
    from attcli.stages.run import Run
    from attcli.store.files import writable

    settings = resolved.settings
    progress.configure(settings.runtime.verbosity)
    if resolved.overruled:
        logger.warning(
            "{} is for another run and decides what no flag does: recipe {} is not used; to use it, work in a folder "
            "without a params.yaml",
            PARAMS,
            resolved.recipe,
        )
    elif not resolved.recipe_found and resolved.content_not_from_params():
        logger.warning("there is no recipe {}; what is not set has its default value", resolved.recipe)
    run = Run(settings, **options)
    runtime.configure(settings.runtime.threads, settings.runtime.deterministic)
    if dry_run:
        from attcli.stages.forecast import forecast

        typer.echo(forecast(run, name))
        if recipe:
            from attcli.stages.cost import cost

            typer.echo(cost(settings))
        return None
    for setting in ("artifacts", "work_dir"):
        writable(getattr(settings.runtime, setting), f"runtime.{setting}")
    runtime.device(settings.runtime.device)
    import torch

    with runtime.stoppable():
        try:
            return act(import_module(f"attcli.stages.{name}"), run)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{settings.runtime.device} has too little memory ({str(error).splitlines()[0]}); "
                f"set runtime.micro_batch, or lower it"
            ) from None


@app.command()
def prepare(
    dataset: Dataset = None,
    limit_per_class: Annotated[int | None, typer.Option(help="Training images a class to keep.")] = None,
    seed: Seed = None,
    sets: Set = None,
    params: Params = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoAuto = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Read a dataset, fit its normaliser and write dataset.h5."""
    with _reporting():
        flags = _given(
            prepare__dataset=dataset,
            prepare__limit_per_class=limit_per_class,
            seed=seed,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )
        _stage("prepare", flags, sets, params, dry_run=dry_run, auto=not no_auto, force=force)


@app.command()
def buffer(
    dataset: Dataset = None,
    experts: ExpertCount = None,
    epochs: Epochs = None,
    seed: Seed = None,
    sets: Set = None,
    params: Params = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoAuto = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Train expert networks on the real images and keep their trajectories; more experts or epochs extend them."""
    with _reporting():
        flags = _given(
            prepare__dataset=dataset,
            buffer__experts=experts,
            buffer__epochs=_epochs(epochs),
            seed=seed,
            runtime__device=device,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )
        _stage("buffer", flags, sets, params, dry_run=dry_run, auto=not no_auto, force=force)


@app.command()
def distill(
    method: Method = None,
    dataset: Dataset = None,
    ipc: Ipc = None,
    iterations: Iterations = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Stop after 90s, 30m or 2h, saved; run again to go on.")
    ] = None,
    experts: ExpertCount = None,
    seed: Seed = None,
    sets: Set = None,
    params: Params = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoAuto = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Distil synthetic images by matching the experts' trajectories, making what is missing for it."""
    with _reporting():
        flags = _given(
            distill__method=method,
            prepare__dataset=dataset,
            distill__ipc=ipc,
            distill__iterations=iterations,
            buffer__experts=experts,
            seed=seed,
            runtime__device=device,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )
        limit = None if time_limit is None else _seconds(time_limit)
        options: dict[str, Any] = {"auto": not no_auto, "force": force, "time_limit": limit}
        _stage("distill", flags, sets, params, dry_run=dry_run, **options)


@app.command()
def evaluate(
    synthetic: Annotated[Path | None, typer.Argument(help="The set to score; default: the distilled one.")] = None,
    archs: Annotated[str | None, typer.Option(help="Architectures, as convnet,vgg11: evaluate.archs.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Networks an architecture: evaluate.repeats.")] = None,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Score the snapshots: the last, and the best on validation images.")
    ] = False,
    literature: Annotated[
        bool, typer.Option("--literature", help="With --snapshots: also the maximum over tests of all of them.")
    ] = False,
    method: Method = None,
    dataset: Dataset = None,
    ipc: Ipc = None,
    iterations: Iterations = None,
    experts: ExpertCount = None,
    seed: Seed = None,
    sets: Set = None,
    params: Params = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoAuto = False,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train fresh networks on the set and on random real images, test them and print the scores."""
    with _reporting():
        if literature and not snapshots:
            raise UserError("--literature takes the maximum over snapshots; add --snapshots")
        _refuse_json(dry_run, as_json)
        if dry_run and synthetic and not synthetic.exists():
            raise UserError(f"{synthetic} is missing; name a set's file")
        if snapshots and synthetic:
            raise UserError("--snapshots scores the results' own snapshots; leave the file out, or use --artifacts DIR")
        flags = _given(
            evaluate__archs=archs,
            evaluate__repeats=repeats,
            distill__method=method,
            prepare__dataset=dataset,
            distill__ipc=ipc,
            distill__iterations=iterations,
            buffer__experts=experts,
            seed=seed,
            runtime__device=device,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )

        def act(stage: ModuleType, run: "Run") -> dict[str, Any]:
            found: dict[str, Any] = (
                stage.run_snapshots(run, literature=literature) if snapshots else stage.run(run, synthetic)
            )
            return found

        report = _stage("evaluate", flags, sets, params, dry_run=dry_run, act=act, auto=not no_auto, force=force)
        if report is not None:
            from attcli.report import scores_table, snapshots_table

            table = snapshots_table if snapshots else scores_table
            typer.echo(json.dumps(report, indent=2) if as_json else table(report))


@app.command()
def diagnose(
    file: Annotated[Path | None, typer.Argument(help="A run's history.h5; default: the results' own.")] = None,
    metric: Annotated[str, typer.Option(help="Distance: l1 or l2.")] = "l1",
    gammas: Annotated[str, typer.Option(help="Missed steps from which a mismatch counts.")] = "5,10,20,40",
    every: Annotated[int, typer.Option(help="Iterations that mismatches are counted in.")] = 50,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: diagnosis beside the history.")] = None,
    artifacts: Artifacts = None,
) -> None:
    """Draw how far the student's steps are from fitting the experts': PNG, SVG, and the data as CSV."""
    with _reporting():
        from attcli.stages import diagnose as stage

        if metric not in ("l1", "l2"):
            raise UserError(f"--metric {metric}: choose l1 or l2")
        if not all(part.strip().isdigit() for part in gammas.split(",")):
            raise UserError(f"--gammas {gammas}: write whole numbers, as 5,10,20")
        resolved = _resolve(_given(runtime__artifacts=artifacts), None, None)
        history = file or resolved.settings.runtime.artifacts / "history.h5"
        chosen = [int(part) for part in gammas.split(",")]
        for written in stage.run(history, out or history.parent / "diagnosis", metric, chosen, every):
            typer.echo(str(written))


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(metavar="recipe", help="A recipe, as `attcli recipes` lists them.")],
    sets: Set = None,
    seed: Seed = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Annotated[Path | None, typer.Option(help="Where results go; default: reproduced/<recipe>.")] = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe from nothing to its score beside the published one; --dry-run says what that costs."""
    with _reporting():
        from attcli.settings.layers import assignment
        from attcli.settings.recipes import get

        recipe = get(name)
        _refuse_json(dry_run, as_json)
        given, own = dict(assignment(text) for text in sets or []), _selectors(recipe.name)
        for key in given.keys() & own.keys():
            if given[key] != own[key]:
                raise UserError(f"{name} decides {key}; choose another recipe, or run `attcli evaluate` with --set")
        elsewhere = artifacts or (None if "runtime.artifacts" in given else Path("reproduced") / recipe.name)
        flags = _given(
            seed=seed,
            runtime__device=device,
            runtime__data_dir=data_dir,
            runtime__artifacts=elsewhere,
        )

        def act(stage: ModuleType, run: "Run") -> dict[str, Any]:
            import_module("attcli.stages.distill").run(run)
            found: dict[str, Any] = stage.run(run)
            return found

        report = _stage("evaluate", flags, sets, None, dry_run=dry_run, recipe=recipe.name, act=act, force=force)
        if report is not None:
            from attcli.report import beside_published, scores_table

            if as_json:
                typer.echo(json.dumps({**report, "published": recipe.published}, indent=2))
            else:
                typer.echo(scores_table(report) + "\n" + beside_published(report, recipe.published))


@app.command()
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
    with _reporting():
        from attcli.settings import Settings
        from attcli.settings.layers import values_of

        if schema:
            typer.echo(json.dumps(Settings.model_json_schema(), indent=2))
            return
        flags = _given(prepare__dataset=dataset, distill__method=method, distill__ipc=ipc)
        resolved = _resolve(flags, sets, params)
        values = values_of(resolved.settings)
        if as_json:
            listed = {name: {"value": value, "from": resolved.origin[name]} for name, value in values.items()}
            typer.echo(json.dumps(listed, indent=2))
            return
        width = max(map(len, values))
        for name, value in values.items():
            typer.echo(f"{name:{width}}  {json.dumps(value):<40}  {resolved.origin[name]}")


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes."""
    if context.invoked_subcommand is None:
        with _reporting():
            from attcli.settings.recipes import all_recipes

            for name, recipe in all_recipes().items():
                doubtful = sum(bool(entry.doubt) for entry in recipe.values.values())
                typer.echo(f"{name:28}  {recipe.title}" + (f" ({doubtful} doubtful values)" if doubtful else ""))


@recipes_app.command("show")
def recipes_show(name: str) -> None:
    """Show a recipe's values, each with its source."""
    with _reporting():
        from attcli.settings.recipes import get

        recipe = get(name)
        typer.echo(f"{recipe.name}: {recipe.title}")
        for key, entry in recipe.values.items():
            doubt = f"  DOUBTFUL: {entry.doubt}" if entry.doubt else ""
            typer.echo(f"  {key:26} {json.dumps(entry.value):<12} {entry.source}{doubt}")
        if recipe.published:
            typer.echo(f"  published: {json.dumps(recipe.published)}")


@recipes_app.command("use")
def recipes_use(name: str, force: Force = False) -> None:
    """Write a complete params.yaml from a recipe."""
    with _reporting():
        from attcli.settings.completeness import params_of
        from attcli.settings.layers import PARAMS
        from attcli.settings.recipes import get
        from attcli.store.files import write_text

        if PARAMS.exists() and not force:
            raise UserError(f"{PARAMS} is there already; --force overwrites it")
        write_text(PARAMS, params_of(get(name).name))
        typer.echo(f"wrote {PARAMS} from {name}")


def _refuse_json(dry_run: bool, as_json: bool) -> None:
    if dry_run and as_json:
        raise UserError("--dry-run prints lines for people; leave --json out")


def _epochs(text: str | None) -> Any:
    return int(text) if text and text.isdigit() else text


def _seconds(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        found = float(text[:-1]) * units[text[-1]] if text[-1] in units else float(text)
    except (ValueError, IndexError):
        found = 0.0
    if not found > 0:
        raise UserError(f"--time-limit {text}: write it as 90s, 30m or 2h")
    return found


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    sys.exit(app())
