"""`attcli config --diff`: from the defaults, a recipe, a params file, and results."""

import json
from pathlib import Path
from typing import Any

import pytest

from attcli.settings import Settings
from attcli.settings.comparison import of_recipe
from attcli.settings.layers import values_of
from tests.conftest import SMALL, Cli

SMALL_FLAGS = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


def differing(cli: Cli, *words: str) -> dict[str, Any]:
    return json.loads(cli("config", *words, "--json"))


@pytest.mark.parametrize("words", [("--diff",), ("--diff", "defaults")])
def test_from_the_defaults(words: tuple[str, ...], cli: Cli) -> None:
    shown = differing(cli, "--set", "buffer.batch=7", "--ipc", "10", *words)
    here = {
        name: entry["value"]
        for name, entry in json.loads(cli("config", "--set", "buffer.batch=7", "--ipc", "10", "--json")).items()
    }
    defaults = values_of(Settings())
    assert {name: (entry["value"], entry["other"]) for name, entry in shown.items()} == {
        name: (here[name], defaults[name]) for name in here if here[name] != defaults[name]
    }
    assert shown["buffer.batch"] == {"value": 7, "from": "flag", "other": 512, "other_from": "default"}


def test_from_the_recipe_that_is_used_and_from_another(cli: Cli) -> None:
    assert list(differing(cli, "--set", "distill.lr_img=3", "--diff", "recipe")) == ["distill.lr_img"]
    assert cli("config", "--diff", "recipe") == "no setting differs from recipe att/cifar10/ipc1\n"
    shown = differing(cli, "distill", "--diff", "MTT/cifar10/ipc1")
    other = values_of(of_recipe("mtt/cifar10/ipc1").settings)
    assert {name: entry["other"] for name, entry in shown.items()} == {name: other[name] for name in shown}
    assert shown["distill.method"]["other_from"] == "recipe mtt/cifar10/ipc1"
    assert all(name.startswith("distill.") for name in shown)
    assert "distill.select" in shown


def test_from_a_params_file(cli: Cli) -> None:
    Path("other.yaml").write_text("distill: {ipc: 10, lr_img: 4}\n")
    shown = differing(cli, "--ipc", "10", "--diff", "other.yaml")
    assert list(shown) == ["distill.lr_img"]
    assert (shown["distill.lr_img"]["other"], shown["distill.lr_img"]["other_from"]) == (4.0, "other.yaml")


def test_from_results_and_from_a_set(cli: Cli) -> None:
    cli.small("distill")
    same = ("config", *SMALL_FLAGS, "--diff", "artifacts")
    assert cli(*same) == "no setting differs from artifacts\n"
    changed = (*SMALL_FLAGS, "--set", "buffer.lr=0.07", "--set", "distill.lr_img=2", "--set", "prepare.validation=50")
    shown = differing(cli, *changed, "--set", "distill.iterations=9", "--diff", "artifacts")
    assert {name: (entry["value"], entry["other"]) for name, entry in shown.items()} == {
        "prepare.validation": (50, 100),
        "buffer.lr": (0.07, 0.05),
        "distill.lr_img": (2.0, 1.0),
        "distill.iterations": (9, 6),
    }
    of_set = differing(cli, *changed, "--diff", "artifacts/synthetic.h5")
    assert of_set == {name: entry for name, entry in shown.items() if name != "distill.iterations"}
    learned = differing(cli, *SMALL_FLAGS, "--set", "distill.labels=learned", "--diff", "artifacts")
    assert learned["distill.labels"]["other"] == "hard"
    assert learned["distill.lr_labels"] == {
        "value": 2.0,
        "from": "default",
        "other": None,
        "other_from": "nothing reads it",
    }
    table = cli("config", *changed, "--diff", "artifacts")
    assert "distill.lr_img" in table
    assert "(results)" in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--diff", "nowhere"), "--diff 'nowhere': there is no such recipe, file or folder"),
        (("--diff", "."), ". holds no results of attcli"),
        (("--diff", "att/cifar10/ipc11"), "unknown recipe 'att/cifar10/ipc11'; did you mean"),
        (("--diff", "none.h5"), "none.h5 is damaged, or no file of attcli"),
        (("--diff", "--yaml"), "--diff prints two values of each setting"),
    ],
)
def test_what_cannot_be_compared(words: tuple[str, ...], message: str, cli: Cli) -> None:
    Path("none.h5").write_text("nothing")
    assert message in cli("config", *words, code=2)
