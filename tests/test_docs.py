"""The pages: they build into a site whose links lead somewhere, and the commands in them are ones that exist."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from attcli.cli import app
from attcli.cli.command import seconds
from attcli.settings.layers import assignment, names

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for path in [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        REPOSITORY / "SECURITY.md",
        *REPOSITORY.glob("docs/**/*.md"),
    ]
)
OF_A_TUTORIAL = "network.hidden="
"""A setting of the package that a tutorial writes."""


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    commands = (tmp_path / "reference" / "commands.html").read_text()
    assert "attcli recipes show" in commands
    settings = (tmp_path / "reference" / "settings.html").read_text()
    for name in names():
        assert f"<code>{name.rpartition('.')[2]}</code>" in settings
    for page in tmp_path.rglob("*.html"):
        assert not re.search(r"<(script|img|link)[^>]+(src|href)=\"?https?://", page.read_text()), "needs the network"


def test_links_between_pages_lead_somewhere_in_the_repository_too() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (REPOSITORY / page).read_text(encoding="utf-8")):
            if not re.match(r"https?://|mailto:", target):
                assert (REPOSITORY / page).parent.joinpath(target).exists(), f"{page}: {target}"


def _lines(page: str) -> Iterator[str]:
    """The command lines of a page's shell blocks, with their variables put in."""
    variables: dict[str, str] = {}
    for block in re.findall(r"```sh\n(.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.S):
        text = block.replace("\\\n", " ")
        variables.update(re.findall(r'^([A-Z]+)="([^"]*)"', text, re.M))
        for name, value in variables.items():
            text = re.sub(rf"\${name}\b", " ".join(value.split()), text)
        yield from re.sub(r"\$[A-Z_]+", "1", text).splitlines()


def _commands() -> Iterator[Any]:
    """The words after `attcli` in every line that runs it, also in a container."""
    for page in PAGES:
        for line in _lines(page):
            if not re.match(r"\s*(attcli|docker run .* attcli|[A-Z_]+=\S+ attcli) ", line) or "--install" in line:
                continue
            if "--entrypoint" in line:  # another program of the image
                continue
            words = shlex.split(line, comments=True)
            words = words[words.index("attcli") + 1 :]
            stop = next((i for i, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))
            yield pytest.param(words[:stop], id=f"{page}: {' '.join(words[:stop])}")


@pytest.mark.parametrize("words", list(_commands()))
def test_a_command_of_a_page_can_be_parsed(words: list[str]) -> None:
    command: Any = get_command(app)
    context: Any = None
    while True:
        context = command.make_context(command.name, list(words), parent=context, resilient_parsing=False)
        words = [*context._protected_args, *context.args]
        if not words or not hasattr(command, "commands"):
            break
        _, command, words = command.resolve_command(context, words)
    if context.params.get("time_limit"):
        seconds(context.params["time_limit"], "--time-limit")
    for text in context.params.get("sets") or []:
        if not text.startswith(OF_A_TUTORIAL):
            assert assignment(text)[0] in names(), text
