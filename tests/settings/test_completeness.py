"""A complete params.yaml as it is written, and what DVC must see of the settings."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attcli.cli import app
from attcli.errors import UserError
from attcli.settings import Distill, Network, Prepare, Settings, resolve
from attcli.settings.completeness import check_under_dvc, complete, params_of
from attcli.settings.files import read_yaml
from attcli.settings.layers import description, values_of
from attcli.settings.models import CONTENT
from attcli.settings.recipes import all_recipes


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read_back(text: str) -> dict[str, Any]:
    """All settings of a text, by dotted name."""
    Path("written.yaml").write_text(text, encoding="utf-8")
    flat: dict[str, Any] = {}
    for section, values in read_yaml(Path("written.yaml")).items():
        flat |= (
            {f"{section}.{name}": value for name, value in values.items()} if section != "seed" else {section: values}
        )
    return flat


WORDS = [
    "a: b", "#x", "a #b", "on", "off", "yes", "No", "y", "true", "null", "~", "", " ", " a ", "1e3", "1e-07",
    ".inf", "0x1F", "0o7", "007", "1_000", "12:30:45", "2020-01-01", "2020-13-45", "- a", "-", "[a]", "{a: b}",
    "a, b", "!x", "&x", "*x", "%x", "@x", "`x", "|", ">", "? a", "it's", '"quoted"', "a\\b", "a\nb", "a\tb", "\n",
    "a\x85b", "a\u2028b", "\ufeffa", "=", "<<", "x" * 5000, "é", "日本語", "العربية", "हिन्दी", "\N{GRINNING FACE}",
    "a\u200db",
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_any_word_is_read_back_as_it_was_written(word: str) -> None:
    settings = Settings(
        prepare=Prepare(dataset=word),
        network=Network(arch=word),
        distill=Distill(augment=word),
        evaluate={"archs": (word, "convnet", word)},
    )
    text = complete(settings, "odd")
    written = {name: value for name, value in values_of(settings).items() if name.split(".")[0] in CONTENT}
    assert read_back(text) == written
    for line in text.splitlines():
        assert line.startswith(("#", "seed: ")) or not line or line.endswith(":") or "  # " in line


@pytest.mark.parametrize(
    "number",
    [1e-7, 1e-06, 0.1, 1.0, 100.0, 1e16, 1e22, 1.7976931348623157e308, 5e-324, 0.30000000000000004, 123456.789],
)
def test_any_number_is_read_back_to_the_last_digit(number: float) -> None:
    settings = Settings(distill=Distill(lr_img=number, lr_lr=number), evaluate={"random_lrs": (number, 0.5)})
    values = read_back(complete(settings, "numbers"))
    assert [values["distill.lr_img"], values["distill.lr_lr"], *values["evaluate.random_lrs"]] == [
        number, number, number, 0.5,
    ]  # fmt: skip


def test_every_setting_has_its_comment_and_every_section_a_blank_line_before_it() -> None:
    lines = complete(Settings(), "a heading\nof two lines # and a mark").splitlines()
    assert lines[0] == "# a heading of two lines # and a mark"
    values = values_of(Settings())
    assert [line.partition("  # ")[2] for line in lines if "  # " in line] == [
        description(name) for name in values if name.split(".")[0] in CONTENT
    ]
    assert [i for i, line in enumerate(lines) if not line] == [
        i - 1 for i, line in enumerate(lines) if line.endswith(":")
    ]


@pytest.mark.parametrize("name", [name for name in all_recipes() if name.startswith(("datm", "tesla"))])
def test_a_written_recipe_gives_the_recipes_settings(name: str) -> None:
    Path("params.yaml").write_text(params_of(name))
    resolved = resolve(environ={})
    assert resolved.content_not_from_params() == []
    assert (
        resolved.settings == resolve(all_recipes()[name].experiment.settings(), environ={}, ignore_params=True).settings
    )


def under_dvc(monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any], params: Path | None) -> str:
    """What a stage that DVC runs is refused with."""
    monkeypatch.setenv("DVC_STAGE", "distill")
    with pytest.raises(UserError) as caught:
        check_under_dvc(resolve(flags, params, environ={}))
    return str(caught.value)


def test_dvc_is_told_of_the_file_that_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("params.yaml").write_text("train: {lr: 0.1}\n")  # another program's
    Path("mine.conf").write_text("distill: {ipc: 1}\n")
    message = under_dvc(monkeypatch, {}, Path("mine.conf"))
    assert message.startswith("mine.conf lacks seed, ")
    assert "in an empty folder" in message
    assert "--force" not in message


def test_dvc_is_told_of_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    message = under_dvc(monkeypatch, {}, None)
    assert message.startswith("there is no params.yaml, so DVC cannot see")
    assert "`attcli recipes use NAME` for a complete one" in message
    Path("params.yaml").write_text("distill: {ipc: 1}\n")
    message = under_dvc(monkeypatch, {}, None)
    assert message.startswith("params.yaml lacks seed, ")
    assert "--force" in message


def test_dvc_is_told_of_a_flag_that_it_cannot_see(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("params.yaml").write_text(params_of("att/digits/ipc1"))
    message = under_dvc(monkeypatch, {"distill.lr_img": 3.0}, None)
    assert message.startswith("distill.lr_img comes from a flag, so DVC cannot see")
    assert "write it into params.yaml instead" in message


@pytest.mark.parametrize("name", ["x.yml", "x.yaml", "x.conf", "x", "ünï.params", "dir.yaml/x"])
def test_a_complete_params_file_of_any_name_is_enough(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("DVC_STAGE", "distill")
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(params_of("att/digits/ipc1"))
    resolved = resolve({}, path, environ={})
    assert resolved.params == path
    assert resolved.content_not_from_params() == []
    check_under_dvc(resolved)


@pytest.mark.parametrize("name", ["mine.conf", "mine.yml"])
def test_no_recipe_is_missed_where_a_params_file_of_any_name_says_all(name: str) -> None:
    text = params_of("att/digits/ipc1").replace("  ipc: 1 ", "  ipc: 3 ")
    Path(name).write_text(text)
    complete_file = CliRunner().invoke(app, ["distill", "--params", name, "--dry-run"])
    assert complete_file.exit_code == 0
    assert "no recipe" not in complete_file.stderr
    Path(name).write_text(text.replace("  lr_img: 30.0 ", "  # "))
    lacking = CliRunner().invoke(app, ["distill", "--params", name, "--dry-run"])
    assert "there is no recipe for just this method, dataset and ipc" in lacking.stderr
