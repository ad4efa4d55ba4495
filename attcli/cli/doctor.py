"""The command that examines the machine."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attcli.cli import USER_ERROR
from attcli.cli.command import given, reporting, resolve_flags
from attcli.cli.flags import Artifacts, AsJson, DataDir, Device, Params, switch
from attcli.errors import UserError

if TYPE_CHECKING:
    from attcli.doctor.finding import Finding
    from attcli.settings import Settings


def doctor(
    quick: Annotated[
        bool, switch("--quick", "Leave out the test that compiles a step, which can take a minute.")
    ] = False,
    params: Params = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    as_json: AsJson = False,
) -> None:
    """Examine this machine: Python, packages, devices, compiler, memory, disk, DVC. Says what to fix, and how.

    Each line is ok, a note (runs work, but something could be better), or a problem (it would stop a run). If there is
    a problem, the exit code is 2.
    """
    with reporting():
        flags = given(runtime__device=device, runtime__data_dir=data_dir, runtime__artifacts=artifacts)
        settings, first = _settings(flags, params)
        from loguru import logger

        from attcli import progress
        from attcli.doctor.examination import examine

        progress.configure(settings.runtime.verbosity)
        if not quick:
            logger.info("a step is compiled as a test, which can take a minute; --quick leaves that out")
        findings = [first, *examine(settings, compiling=not quick)]
        problems = sum(finding.state == "problem" for finding in findings)
        if as_json:
            content = {"problems": problems, "checks": [finding.as_dict() for finding in findings]}
            typer.echo(json.dumps(content, indent=2))
        else:
            from attcli.tables import findings_text

            typer.echo(findings_text([finding.as_dict() for finding in findings]))
        if problems:
            raise typer.Exit(USER_ERROR)


def _settings(flags: dict[str, Any], params: Any) -> tuple["Settings", "Finding"]:
    """The settings of this folder, or, where these are wrong, the defaults; and the finding that says so."""
    from attcli.doctor.finding import Finding
    from attcli.settings import resolve

    try:
        resolved = resolve_flags(flags, None, params)
    except UserError as error:
        defaults = resolve({}, environ={}, ignore_params=True)
        return defaults.settings, Finding(
            "settings", "problem", str(error), "fix that; what follows is for the defaults"
        )
    by_default = f"no params.yaml here; without flags, commands use recipe {resolved.recipe}"
    source = f"{resolved.params}" if resolved.params else by_default
    return resolved.settings, Finding("settings", "ok", source)
