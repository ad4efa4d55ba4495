"""What the pages and the help say of the choices that there are by name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.main import get_command

from attcli import coding, registry
from attcli.cli import app
from attcli.methods import BASE, load
from attcli.settings import Settings, resolve
from attcli.settings.layers import description, names

REPOSITORY = Path(__file__).parents[1]
OWN_CHOICES = ("parameterisation", "storage", "objective")
"""The choices of a method that the table of methods names as the settings do."""


def page(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without bold type."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("*") for cell in line.split("|")[1:-1]] for line in lines]


@pytest.mark.parametrize("name", registry.names("baseline"))
def test_the_page_on_scores_has_a_row_or_a_paragraph_for_each_baseline(name: str) -> None:
    text = page("docs/scores.md")
    by_name = [row for row in rows(text) if row[0] == f"`{name}`"]
    assert by_name or f"**`{name}`**" in text


def test_the_table_of_methods_has_all_of_them_and_what_they_choose() -> None:
    text = page("docs/methods.md")
    heading, _, *lines = rows(text)
    assert {row[0].strip("`") for row in lines} == set(registry.names("method"))
    for row in lines:
        choices, base = load(row[0].strip("`")), load(BASE)
        for choice in OWN_CHOICES:
            value, plain = getattr(choices, choice), getattr(base, choice)
            assert row[heading.index(choice)] == (value if value != plain or row[0] == f"`{BASE}`" else "")


def test_the_table_of_datasets_says_how_each_is_normalised() -> None:
    told = {
        registry.base(name): (row[3].strip("`"), row[4])
        for row in rows(page("docs/datasets.md"))
        if len(row) == 5
        for name in re.findall(r"`([^`]+)`", row[0])
    }
    told.pop("--dataset")
    facts = {name: registry.dataset(name) for name in registry.names("dataset")}
    assert told == {name: (info.normalise, "yes" if info.literature else "no") for name, info in facts.items()}


def test_the_page_on_sets_says_how_many_images_fit() -> None:
    lines = [row for row in rows(page("docs/sets.md")) if len(row) == 2 and row[1].isdigit()]
    assert len(lines) > 5
    for what, count in lines:
        parameterisation, storage = re.findall(r"`(\w+)`", what)
        bits = re.search(r"(\d) bits", what)
        asked = {"distill.parameterisation": parameterisation, "distill.storage": storage}
        asked |= {"distill.code_bits": int(bits[1])} if bits else {}
        settings = resolve({**asked, "distill.ipc": 1}, environ={}, ignore_params=True).settings
        assert coding.images_per_class(settings.distill, 3, 32) == int(count), what


def values(annotation: Any) -> Iterator[str]:
    """The words that a setting of this type takes."""
    for part in get_args(annotation):
        yield from [part] if isinstance(part, str) else values(part)


@pytest.mark.parametrize("name", [name for name in names() if "." in name])
def test_a_setting_that_takes_few_words_says_which(name: str) -> None:
    section, _, key = name.partition(".")
    model: Any = Settings.model_fields[section].annotation
    for word in values(model.model_fields[key].annotation):
        assert re.search(rf"\b{word}\b", description(name)), word


@pytest.mark.parametrize("kind", ["trainer", "objective", "parameterisation", "storage", "baseline"])
def test_a_setting_that_takes_few_choices_names_them(kind: str) -> None:
    for choice in registry.names(kind):
        assert re.search(rf"\b{choice}\b", description(registry.KINDS[kind].setting)), choice


def help_of(command: str) -> Any:
    return get_command(app).commands[command]  # type: ignore[attr-defined]


def test_the_help_of_distill_names_all_methods() -> None:
    for method in registry.names("method"):
        assert re.search(rf"\b{method}\b", help_of("distill").help.partition("Methods:")[2]), method


def test_the_help_of_evaluate_names_all_baselines_and_leaves_the_rest_to_the_sets_file() -> None:
    flags = {flag.name: flag.help for flag in help_of("evaluate").params}
    for baseline in registry.names("baseline"):
        assert re.search(rf"\b{baseline}\b", flags["baselines"]), baseline
    for name in ("method", "dataset", "ipc", "iterations", "experts"):
        assert "Default: what the set's file says." in flags[name]


def test_the_help_of_records_says_what_it_does_without_a_command() -> None:
    assert "[FOLDER] [--json]" in help_of("records").help
    assert "Default folder: benchmarks/records/runs if it exists, otherwise records" in help_of("records").help
