"""The command that begins a project of one's own."""

import os
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated

import typer

from attcli.cli.command import given, reporting
from attcli.cli.flags import DataDir, Dataset, Ipc, Method, Set, switch
from attcli.errors import UserError

if TYPE_CHECKING:
    from attcli.settings import Resolved

WRITTEN = ("dvc.yaml", "params.yaml")


def init(
    dataset: Dataset = None,
    method: Method = None,
    ipc: Ipc = None,
    sets: Set = None,
    data_dir: DataDir = None,
    force: Annotated[
        bool, switch("--force", "Overwrite the dvc.yaml and params.yaml of this folder. By default they are kept.")
    ] = False,
) -> None:
    """Begin a project in this folder: write dvc.yaml, params.yaml, and what git and DVC are to ignore.

    After that, `dvc repro` runs all stages, and runs again what depends on a setting that you change in params.yaml. It
    needs DVC, which the extra named dvc installs.
    """
    with reporting():
        from attcli.settings import resolve
        from attcli.settings.completeness import complete
        from attcli.settings.layers import assignment
        from attcli.settings.project import data_flag, ignored, pipeline
        from attcli.store.files import write_text

        flags = given(
            prepare__dataset=dataset,
            distill__method=method,
            distill__ipc=ipc,
            runtime__data_dir=None if data_dir is None else str(data_dir),
        )
        named = {**dict(assignment(text) for text in sets or []), **flags}
        resolved = resolve(named, environ={}, ignore_params=True)
        _refuse_other_folders(resolved)
        existing = [name for name in WRITTEN if Path(name).exists()]
        if existing and not force:
            are, them = ("is", "it") if len(existing) == 1 else ("are", "them")
            raise UserError(
                f"{' and '.join(existing)} {are} there already; "
                f"begin in another folder, or add --force, which replaces what you wrote into {them}"
            )
        lacking = ignored(Path(), resolved)
        write_text(Path("dvc.yaml"), pipeline(resolved))
        write_text(Path("params.yaml"), complete(resolved.settings, _heading(resolved)))
        for name in WRITTEN:
            typer.echo(f"wrote {name}")
        for name, lines in lacking.items():
            _append(Path(name), lines)
        typer.echo("next: " + ", then ".join(_next_steps(data_flag(resolved.settings.runtime.data_dir))))


def _refuse_other_folders(resolved: "Resolved") -> None:
    """UserError for what the project's files would not hold: folders of results, and settings of the machine."""
    from attcli.settings.layers import PREFIX

    for name, origin in resolved.origin.items():
        section, _, key = name.partition(".")
        if origin == "default" or section != "runtime" or key == "data_dir":
            continue
        if key in ("artifacts", "work_dir"):
            raise UserError(
                f"{name} cannot be set here, as dvc.yaml names the folders artifacts and .attcli; leave it out"
            )
        raise UserError(
            f"{name} depends on the machine, so that a project does not hold it; leave it out, and set the variable "
            f"{PREFIX}{key.upper()} on the machine"
        )


def _heading(resolved: "Resolved") -> str:
    chosen = resolved.settings
    asked = f"{chosen.distill.method}/{chosen.prepare.dataset}/ipc{chosen.distill.ipc}"
    if resolved.recipe_found:
        return f"{asked}: written by `attcli init` from recipe {resolved.recipe}"
    used = any(origin.startswith("recipe") for origin in resolved.origin.values())
    rest = (
        f"there is no recipe for just this; the nearest was taken: {resolved.recipe}" if used else "there is no recipe"
    )
    return f"{asked}: written by `attcli init`; {rest}"


def _append(path: Path, lines: list[str]) -> None:
    """Add lines to a file, which keeps what it holds, byte for byte."""
    from attcli.atomic import atomic

    if not lines:
        return
    before = path.read_bytes() if path.exists() else b""
    end = b"\r\n" if b"\r\n" in before else b"\n"
    gap = b"" if not before or before.endswith(b"\n") else end
    with atomic(path) as temporary:
        temporary.write_bytes(before + gap + b"".join(os.fsencode(line) + end for line in lines))
    typer.echo(f"{'added lines to' if before else 'wrote'} {path}")


def _next_steps(flag: str) -> list[str]:
    """What is left to do in this folder before DVC runs the stages, and that."""
    above = (Path.cwd(), *Path.cwd().parents)
    in_dvc = any((folder / ".dvc").is_dir() for folder in above)
    steps = [] if which("dvc") else ["`pip install 'attcli[dvc]'`"]
    if not in_dvc:
        in_git = next((folder for folder in above if (folder / ".git").exists()), None)
        begin = "`dvc init`" if in_git == above[0] else "`dvc init --subdir`"
        steps.append(begin if in_git else "`git init && dvc init` (without git: `dvc init --no-scm`)")
    return [*steps, f"`dvc repro` (what it will cost: `attcli evaluate --dry-run{flag}`)"]
