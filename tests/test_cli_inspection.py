"""What the commands that only look print: help, recipes, settings; and what the shell completes."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.main import get_command

from attcli.cli import app
from attcli.cli.commands import EXAMPLES
from attcli.settings.layers import description, names
from attcli.settings.recipes import all_recipes, get
from attcli.tables import recipe_text
from tests.conftest import Cli
from tests.data.pictures import classes

GROUP = get_command(app)


def command(words: str):
    """The command of these words, as Click knows it."""
    found = GROUP
    for word in words.split():
        found = found.commands[word]
    return found


@pytest.mark.parametrize("words", list(EXAMPLES))
def test_help_has_small_groups_a_sentence_for_each_flag_and_examples(words: str, cli: Cli) -> None:
    text = cli(*words.split(), "-h")
    assert text == cli(*words.split(), "--help")
    lines = [line.strip() for line in text.splitlines()]
    at = lines.index("Examples:")
    assert tuple(lines[at + 1 : at + 4]) == EXAMPLES[words]
    flags = [parameter for parameter in command(words).params if parameter.name not in ("synthetic", "file")]
    groups = Counter(getattr(flag, "rich_help_panel", None) for flag in flags)
    assert not groups or max(groups.values()) <= 10
    for flag in flags:
        if flag.name not in ("install_completion", "show_completion"):
            assert flag.help
            assert flag.help[0].isupper()
            assert flag.help.endswith(".")
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())
    for flag in flags:
        assert flag.hidden or " ".join((flag.help or "").split()) in shown  # no part is taken for markup


@pytest.mark.parametrize("words", [words for words in EXAMPLES if words])
def test_flags_that_take_a_value_say_what_the_default_is(words: str) -> None:
    for flag in command(words).params:
        takes_value = not getattr(flag, "is_flag", False) and flag.param_type_name == "option"
        if takes_value and flag.name != "sets" and not flag.show_default:
            assert re.search(r"[Dd]efault", flag.help), flag.name


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_are_commands(line: str, cli: Cli) -> None:
    _, *words = shlex.split(line.partition(" > ")[0])
    found = GROUP
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    found.make_context(found.name, list(words))
    assert len(line) < 78  # one line in a terminal of 80 columns


@pytest.mark.parametrize(
    "line",
    [
        line
        for lines in EXAMPLES.values()
        for line in lines
        if re.search(r"attcli (recipes|config|prepare|buffer)|work$", line) and not re.search(r"validate \w|h5", line)
    ],
)
def test_examples_run(line: str, cli: Cli) -> None:
    _, *words = shlex.split(line.partition(" > ")[0])
    if words[0] in ("prepare", "buffer"):
        words = [word for word in words if word != "--dry-run"] + ["--dry-run"]
    if "photos" in words:
        classes(cli.folder / "photos", count=320)  # enough for the default batch
    assert cli(*words)


def listed_rows(text: str) -> list[list[str]]:
    """The cells of the rows of a table of recipes, which stand two blanks or more apart."""
    lines = [line.strip() for line in text.splitlines()]
    return [re.split(r" {2,}", line) for line in lines if re.match(r"[\w+-]+/\w+/ipc\d+ ", line)]


def test_recipes_are_listed_for_a_dataset_and_a_method(cli: Cli) -> None:
    everything = cli("recipes")
    assert [cells[0] for cells in listed_rows(everything)] == list(all_recipes())
    assert cli("recipes", "list") == everything
    rows = {cells[0]: cells[1:] for cells in listed_rows(everything)}
    assert rows["att/cifar10/ipc10"] == ["67.7 ± 0.6", "1", "download of 170 MB", "100 x 21", "60,000"]
    assert rows["att/digits/ipc1"] == ["-", "-", "come with attcli", "10 x 4", "100"]
    assert rows["dm/digits/ipc1"] == ["-", "1", "come with attcli", "-", "200"]  # which reads no experts
    assert rows["att/tinyimagenet/ipc10"][1:3] == ["3", "get them yourself"]
    assert rows["mtt/cifar10/ipc1"][0] == "46.2 ± 0.8 ?"
    few = [cells[0] for cells in listed_rows(cli("recipes", "--dataset", "cifar10", "--method", "ATT"))]
    assert few == [f"att/cifar10/ipc{ipc}" for ipc in (1, 10, 50)]
    several = [cells[0] for cells in listed_rows(cli("recipes", "--ipc", "500"))]
    assert several == [f"{name}/cifar10/ipc500" for name in ("datm", "pad", "selmatch")]
    listed = json.loads(cli("recipes", "--dataset", "cifar10", "--method", "att", "--json"))
    assert [entry["name"] for entry in listed] == few
    assert listed == json.loads(cli("recipes", "list", "--json", "--dataset", "cifar10", "--method", "att"))
    assert listed[0]["published"] == get(few[0]).published
    assert listed[0]["unverified"] == 1


@pytest.mark.parametrize("name", list(all_recipes()))
def test_a_recipe_is_shown_whole_in_100_columns(name: str) -> None:
    recipe = get(name)
    text = recipe_text(recipe)
    assert max(map(len, text.splitlines())) <= 100
    lines = text.splitlines()
    unverified = {line.split()[1] for line in lines if line.startswith("? ") and "unverified: could not" not in line}
    assert unverified == {key for key, entry in recipe.values.items() if entry.doubt}
    assert ("? unverified: could not be checked against the publication" in text) == bool(unverified)
    whole = " ".join(text.split())
    for key, entry in recipe.values.items():
        assert f"{key} {json.dumps(entry.value)}" in whole
        assert " ".join((entry.doubt or entry.source).split()) in whole


def test_a_recipe_as_json(cli: Cli) -> None:
    shown = json.loads(cli("recipes", "show", "att/tinyimagenet/ipc10", "--json"))
    recipe = get("att/tinyimagenet/ipc10")
    assert {key: entry["value"] for key, entry in shown["values"].items()} == recipe.settings()
    assert any(entry["unverified"] for entry in shown["values"].values())


def test_one_section_of_the_settings_and_what_they_are(cli: Cli) -> None:
    listed = json.loads(cli("config", "distill", "--json", "--describe"))
    assert list(listed) == [name for name in names() if name.startswith("distill.")]
    assert listed["distill.lr_img"]["description"] == description("distill.lr_img")
    plain = cli("config", "evaluate")
    assert [line.split()[0] for line in plain.splitlines()] == [n for n in names() if n.startswith("evaluate.")]
    described = cli("config", "evaluate", "--describe").splitlines()
    assert [line for line in described if not line.startswith("    ")] == plain.splitlines()
    below = " ".join(line.strip() for line in described if line.startswith("    "))
    assert below == " ".join(description(name) for name in names() if name.startswith("evaluate."))
    assert cli("config", "distill.lr_img").split()[:2] == ["distill.lr_img", "100.0"]
    assert cli("config", "seed").split()[:2] == ["seed", "0"]


@pytest.mark.parametrize("describe", [(), ("--describe",)])
def test_settings_as_yaml_are_a_params_file(describe: tuple[str, ...], cli: Cli) -> None:
    asked = ("--dataset", "cifar100", "--ipc", "10", "--method", "att+datm", "--set", "distill.lr_lr=1e-7")
    before = json.loads(cli("config", "--json", *asked))
    Path("params.yaml").write_text(cli("config", "--yaml", *describe, *asked))
    after = json.loads(cli("config", "--json"))
    assert {name: entry["value"] for name, entry in before.items()} == {n: entry["value"] for n, entry in after.items()}
    elsewhere = [name for name, entry in after.items() if entry["from"] != "params.yaml"]
    assert all(name.startswith("runtime.") for name in elsewhere)
    text = Path("params.yaml").read_text()
    assert (f"# {description('distill.ipc')}" in text) == bool(describe)
    assert "null" in text
    assert cli("config", "prepare", "--yaml").startswith("prepare:\n  dataset: cifar100\n")


def completed(words: str) -> list[str]:
    """What bash is offered behind these words."""
    variables = {"_ATTCLI_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "import sys; sys.argv[0] = 'attcli'; from attcli.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert not result.stderr
    return result.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("attcli distill --dataset ci", ["cifar10", "cifar100"]),
        ("attcli distill --method att+da", ["att+datm"]),
        ("attcli evaluate --archs convnet,v", ["convnet,vgg11", "convnet,vgg11bn", "convnet,vit"]),
        ("attcli reproduce att/cifar10/ipc1", ["att/cifar10/ipc1", "att/cifar10/ipc10"]),
        ("attcli recipes show tesla/digits/ipc1", ["tesla/digits/ipc1", "tesla/digits/ipc10"]),
        ("attcli recipes --dataset imagene", ["imagenette"]),
        ("attcli distill --set distill.lr_i", ["distill.lr_img=", "distill.lr_init="]),
        ("attcli config ev", ["evaluate"]),
        ("attcli recipes diff att/digits/ipc1 mtt/digits/", ["mtt/digits/ipc1", "mtt/digits/ipc10"]),
        ("attcli config --diff mtt/digits/", ["mtt/digits/ipc1", "mtt/digits/ipc10"]),
        ("attcli work --stage b", ["buffer", "baselines"]),
        ("attcli distill --device c", ["cpu", "cuda"]),
    ],
)
def test_the_shell_completes_names(words: str, offered: list[str]) -> None:
    assert completed(words) == offered


@pytest.mark.parametrize(("variables", "coloured"), [({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_leaves_help_and_mistakes_without_colours(variables: dict[str, str], coloured: bool) -> None:
    for words in (["--help"], ["distill", "--bogus"]):
        environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm", **variables}
        command = [sys.executable, "-m", "attcli", *words]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert bool(re.search(r"\x1b\[(\d+;)*3\d", said.stdout + said.stderr)) == coloured


def test_completion_is_installed(tmp_path: Path) -> None:
    script = tmp_path / "attcli"
    script.write_text(f"#!{sys.executable}\nfrom attcli.cli import main\nmain()\n")
    script.chmod(0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-c", "attcli --install-completion bash; echo; cat ~/.bashrc"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "bash completion installed" in said
    (installed,) = (tmp_path / ".bash_completions").iterdir()
    assert f"source '{installed}'" in said
    assert "_ATTCLI_COMPLETE=complete_bash" in installed.read_text()
