"""What every command does: flags become settings, a stage is called, and what went wrong becomes one line."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import typer

from attcli.cli import INTERRUPTED, MORE_IS_LEFT, USER_ERROR, discard, raise_interrupts
from attcli.errors import OutOfTimeError, SignalledError, UserError, of_the_system

if TYPE_CHECKING:
    from attcli.settings import Resolved
    from attcli.stages.forecast import Target
    from attcli.stages.run import Run

SHARED = ("buffer", "distill", "evaluate")
"""The stages whose work several processes can share."""


@contextmanager
def reporting() -> Iterator[None]:
    """Exit code 2 and one line for what is the user's to mend, 130 for Ctrl-C, 75 for a batch system's signal."""
    try:
        yield
    except UserError as error:
        complain(f"attcli: {error}")
        raise typer.Exit(USER_ERROR) from None
    except BrokenPipeError:
        discard(sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        if error.errno is None:
            raise
        complain(f"attcli: {of_the_system(error)}")
        raise typer.Exit(USER_ERROR) from None
    except SignalledError:
        complain("attcli: stopped by a signal; what is done is saved, run it again to go on")
        raise typer.Exit(MORE_IS_LEFT) from None
    except KeyboardInterrupt:
        complain("attcli: interrupted; what is done is saved; run it again to continue")
        raise typer.Exit(INTERRUPTED) from None


def complain(line: str) -> None:
    """Print a line on stderr, if anybody still reads it."""
    try:
        typer.echo(line, err=True)
    except OSError:
        discard(sys.stderr.fileno())


def given(**flags: Any) -> dict[str, Any]:
    """Flags that were given, under their settings' dotted names."""
    return {name.replace("__", "."): value for name, value in flags.items() if value is not None}


def selectors(name: str) -> dict[str, Any]:
    """The settings that a recipe's name `method/dataset/ipcN` decides."""
    from attcli.settings.recipes import get

    return get(name).experiment.settings()


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


def begin_log(sets: list[str] | None) -> None:
    """Set the log up before the settings are known: a folder of images is looked at while they are read."""
    from attcli import progress
    from attcli.settings.layers import assignment

    asked = str(dict(assignment(text) for text in sets or []).get("runtime.verbosity"))
    progress.configure(asked if asked in progress.LEVELS else "normal")


def run_stage(
    name: str,
    flags: dict[str, Any],
    sets: list[str] | None,
    params: Path | None,
    *,
    dry_run: bool = False,
    recipe: str | None = None,
    target: dict[str, Any] | None = None,
    act: Callable[[ModuleType, "Run"], Any] | None = None,
    **options: Any,
) -> Any:
    """Resolve the settings, set the machine up and run a stage, or print what it would do.

    `act` is called with the pipeline and the run, where more than the stage of that name is to be done; `target` says
    what evaluate scores. With a recipe's name all stages are gone through.

    Settings are checked before torch is loaded, so that a mistake is told at once.
    """
    from attcli.settings.completeness import check_under_dvc

    begin_log(sets)
    resolved = resolve_flags(flags, sets, params, recipe)
    check_under_dvc(resolved)

    from attcli import progress, runtime
    from attcli.cli import in_container
    from attcli.stages import jobs
    from attcli.stages.run import Run
    from attcli.store.files import writable

    settings = resolved.settings
    progress.configure(settings.runtime.verbosity)
    if not resolved.recipe_found and resolved.content_not_from_params():
        _tell_no_recipe(resolved)
    _tell_unlike(resolved)
    scored = _target(target)
    if dry_run:
        run = Run(settings, origin=resolved.origin, params=resolved.params, **options)
        runtime.configure(settings.runtime.threads, settings.runtime.deterministic)
        typer.echo(_forecast(run, name, scored, whole=recipe is not None))
        return None
    for setting, flag in (("artifacts", "--artifacts DIR"), ("work_dir", "--set runtime.work_dir=DIR")):
        writable(getattr(settings.runtime, setting), f"runtime.{setting} ({flag})")
    with jobs.workers(settings.runtime.workers if name in SHARED else 1):
        run = Run(settings, origin=resolved.origin, params=resolved.params, **options)
        runtime.configure(settings.runtime.threads, settings.runtime.deterministic)
        if name != "import":  # whose files may say by themselves what they are of
            _announce(run, name, scored, resolved)
            in_container.announce(run, name, scored, whole=recipe is not None)
        return _staged(run, name, act)


def _tell_unlike(resolved: "Resolved") -> None:
    """Warn where a params file names a method, and has not its choices: as after an edit of the name alone."""
    if not resolved.unlike:
        return
    from loguru import logger

    settings = resolved.settings
    method = settings.distill.method
    told = ", ".join(f"{name} {ours} ({method} has {theirs})" for name, (ours, theirs) in resolved.unlike.items())
    logger.warning(
        "{} names the method {}, but has other choices than it: {}; the values of the file count. `attcli init "
        "--dataset {} --method {} --ipc {} --force` writes a file for the method",
        *(resolved.params, method, told, settings.prepare.dataset, method, settings.distill.ipc),
    )


def _tell_no_recipe(resolved: "Resolved") -> None:
    """Say which settings apply where no recipe is for just this; a warning where there are recipes of the dataset."""
    from loguru import logger

    from attcli import registry

    dataset = resolved.settings.prepare.dataset
    used = f"{resolved.recipe} is used" if resolved.rests_on_recipe else "the defaults apply"
    if registry.base(dataset) in registry.OWN:
        logger.info("recipes are for published datasets, and {} is none; {}", dataset, used)
    else:
        logger.warning("there is no recipe for just this method, dataset and ipc; {}", used)


def _staged(run: "Run", name: str, act: Callable[[ModuleType, "Run"], Any] | None) -> Any:
    """Run the stage, or what `act` does in its place. typer.Exit where its time is over before it is done."""
    from loguru import logger

    from attcli import runtime
    from attcli.matching.halving import is_out_of_memory
    from attcli.stages.failures import too_little_memory, without_fixed_order

    pipeline = import_module("attcli.stages.pipeline")
    raise_interrupts()
    with runtime.stoppable():
        try:
            result = act(pipeline, run) if act else getattr(pipeline, name)(run)
        except OutOfTimeError as error:
            logger.warning("stopped by the time limit; {}; run it again to continue", error)
            raise typer.Exit(MORE_IS_LEFT) from None
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise too_little_memory(error, run, name) from None
            if (line := without_fixed_order(error)) is not None:
                raise line from None
            raise
    if run.out_of_time() and not pipeline.is_done(run, name):
        if name == "buffer":  # the others have said how far they came
            logger.warning("stopped by the time limit before all experts were trained; run it again to continue")
        raise typer.Exit(MORE_IS_LEFT)
    return result


def _target(target: dict[str, Any] | None) -> "Target":
    from attcli.stages.forecast import Target
    from attcli.store.artefact import refuse_folder

    if file := (target or {}).get("file"):
        refuse_missing(file)
        refuse_folder(file)
    return Target(**(target or {}))


def _forecast(run: "Run", name: str, target: "Target", whole: bool) -> str:
    """What a command would do; `whole` where it goes through all stages whatever exists."""
    from attcli.stages import forecast

    return forecast.forecast(run, forecast.ORDER if whole else forecast.stages_of(run, name, target), target)


def _announce(run: "Run", name: str, target: "Target", resolved: "Resolved") -> None:
    """Log what a command begins: by whose settings, with which networks, and where."""
    from loguru import logger

    from attcli import runtime
    from attcli.stages import cost, forecast

    settings = run.settings
    files = [origin for origin in resolved.origin.values() if origin == str(resolved.params)]
    scored = forecast.scored_file(run, name, target)
    below = f"recipe {resolved.recipe}" if resolved.rests_on_recipe else "no recipe"
    source = f"the set in {scored}" if scored else files[0] if files else below
    device = runtime.described(settings.runtime.device)
    networks = ", ".join(
        f"{network.name} ({cost.parameters(network):,} parameters)"
        for network in forecast.networks_of(run, name, target)
    )
    logger.info("{}: {}, network {}, on {}", name, source, networks, device)
    logger.debug("settings: {}", settings.model_dump(mode="json"))


def refuse_missing(file: Path | None) -> None:
    """UserError for a named file that is not there, which no stage makes."""
    if file is not None and not file.exists():
        raise UserError(f"{file} is missing; name a file that exists")


def refuse_json(dry_run: bool, as_json: bool) -> None:
    """UserError for --dry-run with --json."""
    if dry_run and as_json:
        raise UserError("--dry-run prints lines for people; leave --json out")


def seconds(text: str, flag: str) -> float:
    """A duration in seconds: 90s, 30m, 2h, 1h30m, 1d, or as Slurm writes it, 1:30:00, 2-12, 2-12:30 or 2-00:00:00."""
    units: dict[str, float] = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    try:
        if ":" in text or re.fullmatch(r"\d+-\d+", text):
            days, _, clock = text.rpartition("-")
            parts = [float(part) for part in clock.split(":")]
            if days:  # after which hours come first, then minutes and seconds; without days the last ones are seconds
                parts += [0.0] * (3 - len(parts))
            duration = float(days or 0) * units["d"] + sum(p * 60.0**i for i, p in enumerate(reversed(parts)))
        elif re.fullmatch(r"([\d.]+[dhms])+", text):
            duration = sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", text))
        else:
            duration = float(text)
    except (ValueError, OverflowError):
        duration = 0.0
    if not 0 < duration < float("inf"):
        raise UserError(f"{flag} {text}: write it as 90s, 30m, 2h, 1h30m, 1d, 1:30:00 or 2-12:30 (days first)")
    return duration
