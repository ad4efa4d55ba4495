"""Pages of the documentation that are made from the code or from files elsewhere; a hook of MkDocs.

`reference/commands.md` and `reference/settings.md` say what the command line and the settings say of themselves.
CONTRIBUTING.md, CHANGELOG.md, SECURITY.md and the records of benchmarks become a part of the site, and links to them
lead there.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from mkdocs.structure.files import File, Files
from typer.main import get_command

from attcli.cli import app
from attcli.settings import Settings
from attcli.settings.layers import description, names

REPOSITORY = Path(__file__).parents[2]
MOVED = {
    "../README.md": "index.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../SECURITY.md": "security.md",
    "../benchmarks/records": "records",
}
"""Where links out of docs/ lead on the site."""

SECTIONS = {
    "prepare": "Which images, and how they are normalised",
    "network": "The network that experts and students share",
    "buffer": "How experts are trained",
    "distill": "The method, and how the set is optimised",
    "evaluate": "How a set is scored",
    "runtime": "Where and how attcli runs: never what it computes",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made here."""
    made = {
        "reference/commands.md": commands(),
        "reference/settings.md": settings(),
        "contributing.md": _from_the_top("CONTRIBUTING.md"),
        "changelog.md": _from_the_top("CHANGELOG.md"),
        "security.md": _from_the_top("SECURITY.md"),
    }
    for path in sorted((REPOSITORY / "benchmarks" / "records").rglob("*.*")):
        made[f"records/{path.relative_to(REPOSITORY / 'benchmarks' / 'records')}"] = path.read_bytes()
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links out of docs/ lead to where their targets are on the site."""
    depth = page.file.src_uri.count("/")
    for outside, inside in MOVED.items():
        markdown = markdown.replace(f"({'../' * depth}{outside}", f"({'../' * depth}{inside}")
    return re.sub(r"\[([^\]]*)\]\((?:\.\./)*records\)", r"\1 (`benchmarks/records`)", markdown)


def _from_the_top(name: str) -> str:
    """A page of the repository's top folder, whose links start there."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("[", "\\[")


def commands() -> str:
    """Every command: what it does, its arguments and flags, examples."""
    top = get_command(app)
    lines = ["# Commands", "", "`attcli COMMAND --help` prints the same.", ""]
    for name, command in _all(top, "attcli"):
        lines += [f"## {name}", "", *_paragraphs(command.help or ""), ""]
        rows = list(_parameters(command))
        if rows:
            lines += [
                "| flag | what it does |",
                "|---|---|",
                *(f"| `{flag}` | {_cell(says)} |" for flag, says in rows),
                "",
            ]
        epilog = (command.epilog or "").partition("Exit codes:")[0].strip().removeprefix("Examples:").strip()
        if epilog:
            lines += ["```sh", *(line.strip() for line in epilog.splitlines()), "```", ""]
    return "\n".join(lines)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.replace("\b", "")):
        yield re.sub(r"(?<!`)<", "&lt;", " ".join(paragraph.split()))
        yield ""


def _all(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    if name != "attcli" and (command.params or command.help):
        yield name, command
    for word, other in command.commands.items():
        yield from _all(other, f"{name} {word}")


def _parameters(command: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        flags = ", ".join(parameter.opts) if parameter.opts[0].startswith("-") else ""
        value = parameter.metavar or ("" if getattr(parameter, "is_flag", False) else (parameter.name or "").upper())
        yield " ".join(part for part in (flags, value) if part).strip(), parameter.help or ""


def settings() -> str:
    """Every setting by section: its name, default, and what it means."""
    lines = [
        "# Every setting",
        "",
        "`--set NAME=VALUE` sets any of them. Defaults are those of attcli; a recipe, a method or `params.yaml` may",
        "say something else. `attcli config` shows the values of a run, and where each came from. "
        "[Settings](../settings.md) explains the order.",
        "",
    ]
    by_section: dict[str, list[str]] = {}
    for name in names():
        section, _, key = name.rpartition(".")
        by_section.setdefault(section, []).append(f"| `{key}` | {_default(name)} | {_cell(description(name))} |")
    for section, rows in by_section.items():
        title = f"{section}" if section else "seed"
        lines += [f"## {title}", ""]
        if section:
            lines += [f"{SECTIONS[section]}.", ""]
        lines += ["| setting | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _default(name: str) -> str:
    model: Any = Settings
    section, _, key = name.rpartition(".")
    if section:
        annotation = Settings.model_fields[section].annotation
        model = next((part for part in get_args(annotation) if hasattr(part, "model_fields")), annotation)
    value = model.model_fields[key].get_default(call_default_factory=True)
    if value is None:
        return ""
    return f"`{json.dumps(value, default=str)}`"
