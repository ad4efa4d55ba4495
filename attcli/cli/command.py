"""What every command does: flags become settings, a stage is called, and what went wrong becomes one line."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import typer

from attcli.errors import UserError

if TYPE_CHECKING:
    from attcli.settings import Resolved
    from attcli.stages.run import Run

USER_ERROR = 2
INTERRUPTED = 130
MORE_IS_LEFT = 75
"""Exit code of a command that its time limit ended; the same command continues."""


@contextmanager
def reporting() -> Iterator[None]:
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
        typer.echo(f"attcli: {place}{error.strerror}; fix that and run it again: what was finished is kept", err=True)
        raise typer.Exit(USER_ERROR) from None
    except KeyboardInterrupt:
        typer.echo("attcli: interrupted; what is done is saved, run it again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None


def given(**flags: Any) -> dict[str, Any]:
    """Flags that were given, under their settings' dotted names."""
    return {name.replace("__", "."): value for name, value in flags.items() if value is not None}


def selectors(name: str) -> dict[str, Any]:
    """The settings that a recipe's name `method/dataset/ipcN` decides."""
    method, dataset, ipc = name.split("/")
    return {"distill.method": method, "prepare.dataset": dataset, "distill.ipc": int(ipc.removeprefix("ipc"))}


def resolve_flags(
    flags: dict[str, Any], sets: list[str] | None, params: Path | None, recipe: str | None = None
) -> "Resolved":
    """The settings. With a recipe's name, those of it alone: params.yaml is not read."""
    from attcli.settings import resolve
    from attcli.settings.layers import assignment

    plain = {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
    if recipe:
        plain = {**selectors(recipe), **plain}
    named = {**dict(assignment(text) for text in sets or []), **plain}
    return resolve(named, params, recipe=recipe, ignore_params=recipe is not None)


def run_stage(
    name: str,
    flags: dict[str, Any],
    sets: list[str] | None,
    params: Path | None,
    *,
    dry_run: bool = False,
    recipe: str | None = None,
    act: Callable[[ModuleType, "Run"], Any] | None = None,
    **options: Any,
) -> Any:
    """Resolve the settings, set the machine up and run a stage, or print what it would do.

    `act` is called with the pipeline and the run, where more than the stage of that name is to be done.

    Settings are checked before torch is loaded, so that a mistake is told at once.
    """
    from attcli.settings.completeness import check_under_dvc

    resolved = resolve_flags(flags, sets, params, recipe)
    check_under_dvc(resolved)
    from loguru import logger

    from attcli import progress, runtime
    from attcli.stages.run import Run
    from attcli.store.files import writable

    settings = resolved.settings
    progress.configure(settings.runtime.verbosity)
    if not resolved.recipe_found and resolved.content_not_from_params():
        used = resolved.recipe if any(o.startswith("recipe") for o in resolved.origin.values()) else "none"
        logger.warning("there is no recipe for just this method, dataset and ipc; taken instead: {}", used)
    run = Run(settings, origin=resolved.origin, **options)
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
    files = [origin for origin in resolved.origin.values() if origin.endswith((".yaml", ".yml"))]
    source = files[0] if files else f"recipe {resolved.recipe}"
    device = runtime.described(settings.runtime.device)
    logger.info("{}: {}, network {}, on {}", name, source, settings.network.arch, device)
    logger.debug("settings: {}", settings.model_dump(mode="json"))
    import torch

    with runtime.stoppable():
        try:
            pipeline = import_module("attcli.stages.pipeline")
            result = act(pipeline, run) if act else getattr(pipeline, name)(run)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{settings.runtime.device} has too little memory ({str(error).splitlines()[0]}); "
                f"set runtime.micro_batch, or lower it"
            ) from None
    if run.out_of_time() and not pipeline.is_done(run, name):
        raise typer.Exit(MORE_IS_LEFT)
    return result


def refuse_json(dry_run: bool, as_json: bool) -> None:
    """UserError for --dry-run with --json."""
    if dry_run and as_json:
        raise UserError("--dry-run prints lines for people; leave --json out")
