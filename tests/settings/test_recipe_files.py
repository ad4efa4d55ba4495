"""Files of recipes: what is found wrong in them, and how two recipes differ."""

import json
from pathlib import Path

import pytest

from attcli.settings.comparison import of_recipe, recipes_differ
from attcli.settings.layers import SELECTORS, values_of
from attcli.settings.models import CONTENT
from attcli.settings.recipe_files import own_files, problems
from attcli.settings.recipes import get
from tests.conftest import Cli

RIGHT = """\
sources:
  paper: "A paper, table 3"
shared:
  buffer.experts: [10, paper]
recipes:
  att/digits/ipc1:
    title: ATT on the digits, 1 image per class
    published: {network: convnet, accuracy: 94.0, sd: 0.5, table: "A paper, table 1"}
    values:
      distill.lr_img: [30, paper]
      distill.syn_steps: [60, paper, "read off a plot"]
"""


def found(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    prefix = f"{path}, line "
    lines = problems(path)
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def test_our_own_files_are_right() -> None:
    assert {path: problems(path) for path in own_files()} == {path: [] for path in own_files()}
    assert len(own_files()) > 10


def test_a_right_file_has_no_mistakes(tmp_path: Path) -> None:
    assert found(tmp_path, RIGHT) == []


@pytest.mark.parametrize(
    ("before", "after", "mistake"),
    [
        (
            "distill.lr_img:",
            "distill.lr_imgs:",
            "10: unknown setting 'distill.lr_imgs'; did you mean 'distill.lr_img'?",
        ),
        ("[30, paper]", "[-30, paper]", "10: distill.lr_img: input should be greater than or equal to 0, not -30"),
        ("[30, paper]", "[true, paper]", "10: distill.lr_img: input should be a number, not true"),
        ("[30, paper]", "[30]", "10: distill.lr_img has no source; write it as [value, source]"),
        ("[30, paper]", "30", "10: distill.lr_img has no source"),
        ("[30, paper]", "[30, papers]", "10: distill.lr_img names the source 'papers', which is not in the section"),
        ('"read off a plot"', "1", "11: distill.syn_steps: say in words what could not be verified, not 1"),
        ("distill.lr_img:", "distill.ipc:", "10: distill.ipc follows from the recipe's name; delete the line"),
        ("distill.lr_img:", "runtime.threads:", "10: runtime.threads says where or how a run is executed"),
        ("[10, paper]", "[0, paper]", "4: buffer.experts: input should be greater than or equal to 1, not 0"),
        ("shared:", "share:", "3: unknown section 'share'; a file of recipes has the sections sources"),
        ("ipc1:", "ipc-1:", "6: a recipe is named method/dataset/ipcN"),
        ("att/digits", "atx/digits", "6: atx/digits/ipc1: unknown method 'atx'"),
        ("att/digits", "att/digit", "6: att/digit/ipc1: unknown dataset 'digit'; did you mean 'digits'?"),
        ("    values:\n", "    value:\n", "6: att/digits/ipc1 holds no values"),
        ("    title:", "    titel:", "7: att/digits/ipc1: unknown key 'titel'; there are: published, title, values"),
        ("accuracy: 94.0", "accuracy: 940", "8: att/digits/ipc1: the published accuracy is in percent"),
        ("network: convnet, ", "", "8: att/digits/ipc1: write published as {network: convnet"),
        ("network: convnet", "network: convnett", "8: att/digits/ipc1: unknown network 'convnett'"),
        ("  paper:", "  paper: ''\n  other:", "2: source 'paper' must say in words"),
        ("[10, paper]", "[10, paper]\n  buffer.epochs: [1, paper]", "7: att/digits/ipc1: buffer.epochs 1 is too few"),
        (
            "[30, paper]",
            "[30, paper]\n      distill.batch_syn: [99, paper]",
            "6: att/digits/ipc1: distill.batch_syn 99 is",
        ),
    ],
)
def test_each_mistake_has_a_line(before: str, after: str, mistake: str, tmp_path: Path) -> None:
    assert RIGHT.count(before) >= 1
    lines = found(tmp_path, RIGHT.replace(before, after, 1))
    assert any(line.startswith(mistake) for line in lines), lines


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = RIGHT.replace("[30, paper]", "[-30, papers]").replace("[60, paper,", "[0, paper,")
    assert [line.split(":")[0] for line in found(tmp_path, text)] == ["10", "10", "11"]


def test_the_command_that_checks_files(cli: Cli) -> None:
    Path("own.yaml").write_text(RIGHT)
    assert cli("recipes", "validate", "own.yaml") == "no mistakes in 1 file\n"
    Path("own.yaml").write_text(RIGHT.replace("lr_img", "lr_imgs"))
    assert cli("recipes", "validate", "own.yaml", code=2).startswith("own.yaml, line 10: unknown setting")
    Path("own.yaml").write_text("recipes: [")
    assert cli("recipes", "validate", "nowhere.yaml", code=2).startswith("attcli: nowhere.yaml is no file; name a file")
    assert "own.yaml, line 1 is not valid YAML" in cli("recipes", "validate", "own.yaml", code=2)


def test_recipes_differ_in_what_they_compute() -> None:
    pairs = recipes_differ("att/cifar10/ipc1", "datm/cifar10/ipc10")
    one, other = (values_of(of_recipe(name).settings) for name in ("att/cifar10/ipc1", "datm/cifar10/ipc10"))
    content = {name for name in one if name.partition(".")[0] in CONTENT}
    assert set(pairs) == {name for name in content if one[name] != other[name]}
    assert {name: tuple(side.value for side in pair) for name, pair in pairs.items()} == {
        name: (one[name], other[name]) for name in pairs
    }
    assert {"distill.method", "distill.ipc"} < set(pairs)
    assert "prepare.dataset" in SELECTORS
    assert "prepare.dataset" not in pairs


def test_differences_name_their_sources(cli: Cli) -> None:
    names = ("att/cifar10/ipc1", "datm/cifar10/ipc10")
    shown = json.loads(cli("recipes", "diff", *names, "--json"))
    values = {name: get(name).values for name in names}
    for key, sides in shown.items():
        for name, side in sides.items():
            if key in values[name]:
                assert side["source"].startswith(values[name][key].source.removesuffix("; unverified"))
            else:
                assert side["source"] in ("the recipe's name", "default", f"method {name.split('/')[0]}")
    text = cli("recipes", "diff", *names)
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  distill.")] == [
        key for key in shown if key.startswith("distill.")
    ]
    assert cli("recipes", "diff", names[0], names[0].upper()) == f"{names[0]} and {names[0]} have the same settings\n"
    assert "unknown recipe 'att/cifar10/ipc11'" in cli("recipes", "diff", names[0], "att/cifar10/ipc11", code=2)
