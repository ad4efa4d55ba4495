"""All checks in their order. No check can keep another from being made, however broken the machine is."""

from collections.abc import Callable, Iterator

from attcli.doctor import accelerator, folders, machine, packages
from attcli.doctor.finding import Finding
from attcli.errors import UserError
from attcli.settings import Settings

Check = Callable[[Settings], Finding]


def checks(compiling: bool) -> dict[str, Check]:
    """The checks by name; without `compiling` the one that compiles a step, which can take a minute, is left out."""
    all_of_them: dict[str, Check] = {
        "python": packages.python,
        "packages": packages.required,
        "extras": packages.optional,
        "torch": accelerator.torch_build,
        "device": accelerator.device,
        "precision": accelerator.precision,
        "compiler": machine.compiler,
        "compiled step": machine.compiled_step,
        "threads": machine.threads,
        "memory": machine.memory,
        "results": folders.results,
        "kept work": folders.kept_work,
        "compiler cache": folders.compiler_cache,
        "dvc": folders.dvc,
        "container": folders.container,
    }
    return {name: check for name, check in all_of_them.items() if compiling or name != "compiled step"}


def examine(settings: Settings, *, compiling: bool = True) -> Iterator[Finding]:
    """The findings of all checks, each as soon as it is made."""
    for name, check in checks(compiling).items():
        yield _guarded(name, check, settings)


def _guarded(name: str, check: Check, settings: Settings) -> Finding:
    """The finding of a check; where the check itself fails, that is the finding."""
    try:
        return check(settings)
    except UserError as error:
        return Finding(name, "problem", str(error), "fix that, then run `attcli doctor` again")
    except Exception as error:  # a machine may be broken in any way, and a report of it is what was asked for
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return Finding(name, "note", f"this could not be found out ({reason[:200]})")
