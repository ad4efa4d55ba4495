"""The commands that only look: config at the settings, diagnose at a run's history."""

import io
import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attcli.cli import completion
from attcli.cli.command import begin_log, given, reporting, resolve_flags
from attcli.cli.difference import FLAG, difference
from attcli.cli.flags import COUNT, Artifacts, AsJson, Dataset, Ipc, Method, Params, Set, switch
from attcli.errors import UserError, one_line

if TYPE_CHECKING:
    from attcli.settings import Resolved

NULL = "tag:yaml.org,2002:null"


def config(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="SECTION",
            help="Only this section, such as distill, or this setting, such as distill.lr_img. Default: all.",
            autocompletion=completion.sections,
        ),
    ] = None,
    describe: Annotated[bool, switch("--describe", "Say below each setting what it is.")] = False,
    as_yaml: Annotated[
        bool, switch("--yaml", "Print YAML that can be kept as a params.yaml; --describe adds comments.")
    ] = False,
    as_json: AsJson = False,
    schema: Annotated[bool, switch("--schema", "Print the JSON schema of all settings instead.")] = False,
    diff: Annotated[
        str | None,
        typer.Option(
            FLAG,
            help="Only settings that differ, beside the others' values: from those of a recipe, of a params file, of a "
            "folder of results, or of `recipe`, the one that is used here. Default: from the defaults.",
            metavar="[WHAT]",
            show_default=False,
            autocompletion=completion.recipes,
        ),
    ] = None,
    sets: Set = None,
    params: Params = None,
    dataset: Dataset = None,
    method: Method = None,
    ipc: Ipc = None,
) -> None:
    """Print every setting with its value, and where that came from: a flag, params.yaml, a recipe, or the default."""
    with reporting():
        if diff is not None and (as_yaml or schema or describe):
            raise UserError(f"{FLAG} prints two values of each setting; leave --yaml, --schema and --describe out")
        if as_yaml + as_json + schema > 1:
            raise UserError("--yaml, --json and --schema print the settings in three ways; choose one of them")
        from attcli.settings import Settings

        if schema:
            typer.echo(json.dumps(Settings.model_json_schema(), indent=2))
            return
        flags = given(prepare__dataset=dataset, distill__method=method, distill__ipc=ipc)
        begin_log(sets)
        resolved = resolve_flags(flags, sets, params)
        values = _chosen(resolved, section)
        if diff is not None:
            _print_difference(resolved, list(values), diff, as_json)
            return
        if as_json:
            typer.echo(json.dumps(_as_json(resolved, values, describe), indent=2))
        elif as_yaml:
            typer.echo(_as_yaml(values, section, describe), nl=False)
        else:
            _print(resolved, values, describe)


def _print_difference(resolved: "Resolved", names: list[str], other: str, as_json: bool) -> None:
    """Print those of the named settings that differ."""
    from attcli.tables import sides_table

    sides, title = difference(resolved, other)
    sides = {name: pair for name, pair in sides.items() if name in names}
    if as_json:
        content = {
            name: {"value": ours.value, "from": ours.source, "other": theirs.value, "other_from": theirs.source}
            for name, (ours, theirs) in sides.items()
        }
        typer.echo(json.dumps(content, indent=2))
    else:
        typer.echo(sides_table(sides, "here", title) if sides else f"no setting differs from {title}")


def _chosen(resolved: "Resolved", section: str | None) -> dict[str, Any]:
    """The values of a section, of one setting, or of all."""
    from attcli.registry import known
    from attcli.settings.layers import values_of

    values = values_of(resolved.settings)
    if section is None:
        return values
    sections = dict.fromkeys(name.partition(".")[0] for name in values)
    known("section", section, values if "." in section else sections)
    return {name: value for name, value in values.items() if section in (name, name.partition(".")[0])}


def _as_json(resolved: "Resolved", values: dict[str, Any], describe: bool) -> dict[str, dict[str, Any]]:
    from attcli.settings.layers import description

    entries = {name: {"value": value, "from": resolved.origin[name]} for name, value in values.items()}
    if describe:
        entries = {name: {**entry, "description": description(name)} for name, entry in entries.items()}
    return entries


def _print(resolved: "Resolved", values: dict[str, Any], describe: bool) -> None:
    from attcli.settings.layers import description

    width = max(map(len, values))
    for name, value in values.items():
        typer.echo(f"{name:{width}}  {json.dumps(value):<40}  {one_line(resolved.origin[name])}")
        if describe:
            typer.echo(textwrap.indent(textwrap.fill(description(name), 96), "    "))


def _as_yaml(values: dict[str, Any], section: str | None, describe: bool) -> str:
    """The settings as a params.yaml; without a section those that decide what is computed, as runtime is no part."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    from attcli.settings.layers import description
    from attcli.settings.models import CONTENT

    content = CommentedMap()
    for name, value in values.items():
        first, _, key = name.partition(".")
        if section is None and first not in CONTENT:
            continue
        place = content.setdefault(first, CommentedMap()) if key else content
        place[key or first] = value
        if describe:
            place.yaml_add_eol_comment(description(name), key or first)
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000  # a comment belongs to its line
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(NULL, "null"))
    yaml.dump(content, text)
    return text.getvalue()


def diagnose(
    file: Annotated[
        Path | None, typer.Argument(metavar="HISTORY.h5", help="A run's history.h5. Default: the results' own.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Distance: l1 or l2. Default: the one that the run matched by.", show_default=False, metavar="NAME"
        ),
    ] = None,
    gammas: Annotated[
        str,
        typer.Option(
            help="Count a mismatch when the nearest step misses the last by at least this many steps.", metavar="N,N"
        ),
    ] = "5,10,20,40",
    every: Annotated[int, typer.Option(help="Count mismatches in blocks of this many iterations.", **COUNT)] = 50,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write to. Default: diagnosis, beside the history.", show_default=False, metavar="FOLDER"
        ),
    ] = None,
    artifacts: Artifacts = None,
) -> None:
    """Say and draw how far the steps of the student were from the experts' parameters that they had to reach.

    Of a set that was made without experts, the course of its loss is told.

    Writes figures as PNG and SVG, and their data as CSV.
    """
    with reporting():
        from attcli.stages import diagnose as stage

        if metric not in (None, "l1", "l2"):
            raise UserError(f"--metric {metric}: choose l1 or l2")
        if not all(re.fullmatch("[0-9]{1,9}", part.strip()) for part in gammas.split(",")):
            raise UserError(f"--gammas {gammas}: write whole numbers, as 5,10,20")
        resolved = resolve_flags(given(runtime__artifacts=artifacts), None, None)
        history = file or resolved.settings.runtime.artifacts / "history.h5"
        windows = [int(part) for part in gammas.split(",")]
        written = stage.run(history, out or history.parent / "diagnosis", metric, windows, every)
        for line in (*written.sentences, *written.files):
            typer.echo(str(line))
