"""How names of choices, settings and recipes may be spelled, and what is offered where there is none of that name."""

from pathlib import Path
from typing import Any

import pytest

from attcli.errors import UserError
from attcli.settings import recipes, resolve
from attcli.settings.layers import assignment
from attcli.settings.recipes import Experiment, parse


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(flags: dict[str, Any], params: Path | None = None) -> str:
    """The one line that settings are refused with."""
    with pytest.raises(UserError) as caught:
        resolve(flags, params, environ={})
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("flags", "params"),
    [
        ({"prepare.dataset": "CIFAR-10"}, "prepare: {dataset: cifar10}"),
        ({"prepare.dataset": "cifar10"}, "prepare: {dataset: CIFAR-10}"),
        ({"prepare.dataset": "Cifar_10"}, "prepare: {dataset: CIFAR 10}"),
        ({"prepare.dataset": "Tiny-ImageNet", "distill.ipc": 1}, "prepare: {dataset: tinyimagenet}"),
        ({"distill.method": "ATT+datm"}, "distill: {method: att + DATM}"),
        ({"distill.ipc": 1}, "distill: {ipc: 1.0}"),
        ({"distill.ipc": "1"}, "distill: {ipc: 1}"),
    ],
)
def test_one_name_in_two_spellings_is_no_contradiction(flags: dict[str, Any], params: str) -> None:
    Path("params.yaml").write_text(params)
    assert resolve(flags, environ={}).params == Path("params.yaml")


@pytest.mark.parametrize(
    ("flags", "params"),
    [
        ({"prepare.dataset": "CIFAR-100"}, "prepare: {dataset: cifar10}"),
        ({"distill.method": "datm+att"}, "distill: {method: att+datm}"),
        ({"distill.ipc": 10}, "distill: {ipc: 1}"),
        ({"distill.ipc": 10}, "distill: {ipc: 1.0}"),
    ],
)
def test_another_name_is_a_contradiction(flags: dict[str, Any], params: str) -> None:
    Path("params.yaml").write_text(params)
    message = refused(flags)
    assert "is asked for, but params.yaml in this folder is for" in message
    assert "work in another folder" in message
    assert resolve(flags, Path("params.yaml"), environ={}).params == Path("params.yaml")


@pytest.mark.parametrize(
    ("setting", "spelling", "name"),
    [
        ("buffer.trainer", "SGD", "sgd"),
        ("buffer.trainer", " Ftd ", "ftd"),
        ("distill.objective", "Trajectory", "trajectory"),
        ("distill.storage", "FLOAT64", "float64"),
        ("distill.parameterisation", "Pixels", "pixels"),
        ("network.arch", "ResNet-18", "resnet18"),
        ("distill.method", "MTT", "mtt"),
        ("prepare.dataset", "CIFAR-100", "cifar100"),
        ("evaluate.archs", "convnet, VGG11", ("convnet", "vgg11")),
        ("evaluate.archs", ["ConvNet", " vgg-11 "], ("convnet", "vgg11")),
    ],
)
def test_names_are_accepted_in_any_case_and_with_blanks_around(setting: str, spelling: Any, name: Any) -> None:
    settings = resolve({setting: spelling}, environ={}).settings
    section, key = setting.split(".")
    assert getattr(getattr(settings, section), key) == name


@pytest.mark.parametrize("ipc", [10, 10.0, "10"])
def test_a_number_of_images_finds_its_recipe_however_it_is_written(ipc: Any) -> None:
    resolved = resolve({"distill.ipc": ipc}, environ={})
    assert (resolved.recipe, resolved.recipe_found, resolved.settings.distill.ipc) == ("att/cifar10/ipc10", True, 10)


@pytest.mark.parametrize("archs", ["", " ", ",", "convnet,", "convnet,,vgg11", None, [], ["convnet", ""]])
def test_a_network_without_a_name_is_told_how_to_write_it(archs: Any) -> None:
    message = refused({"evaluate.archs": archs})
    assert message.startswith("evaluate.archs ")
    assert "as convnet,vgg11; there are: alexnet, convnet" in message


@pytest.mark.parametrize("dataset", ["x" * 3000, "../att/cifar10", "a\0b", "cifar", "cifar10.yaml"])
def test_a_name_that_no_dataset_has_never_reaches_the_disk(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(recipes, "_of_file", refuse)
    assert recipes.find("att", dataset, 1) is None
    assert recipes.nearest("att", dataset, 1) is None
    assert ("has a NUL" if "\0" in dataset else "unknown dataset") in refused({"prepare.dataset": dataset})


@pytest.mark.parametrize(
    ("name", "experiment"),
    [
        ("att/cifar10/ipc10", Experiment("att", "cifar10", 10)),
        ("ATT/CIFAR-10/IPC10", Experiment("att", "cifar10", 10)),
        (" mtt+datm/digits/ipc1 ", Experiment("mtt+datm", "digits", 1)),
        ("att/nowhere/ipc1", Experiment("att", "nowhere", 1)),
        ("att/cifar10/10", None),
        ("att/cifar10", None),
        ("att/cifar10/ipc10/more", None),
        ("att/cifar10/ipc", None),
        ("att/cifar10/ipc-1", None),
        ("att/cifar10/ipc" + "9" * 5000, None),
        ("", None),
    ],
)
def test_a_recipes_name_is_parsed_in_one_place(name: str, experiment: Experiment | None) -> None:
    assert parse(name) == experiment
    if experiment:
        assert parse(str(experiment)) == experiment


def test_every_recipe_is_called_as_what_it_is_for() -> None:
    for name, recipe in recipes.all_recipes().items():
        assert str(recipe.experiment) == name
        assert recipes.get(name.upper()) is recipe


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("att/cifar10/ipc5", "att/cifar10/ipc1"),
        ("att/cifar10/ipc11", "att/cifar10/ipc10"),
        ("ATT/CIFAR-10/ipc60", "att/cifar10/ipc50"),
        ("att/cifar10", "att/cifar10/ipc1"),
        ("cifar10", "att/cifar10/ipc1"),
        ("datm", "datm/digits/ipc1"),
        ("cifar100/datm/ipc10", "datm/cifar100/ipc10"),
        ("att/cifar11/ipc10", "att/cifar10/ipc10"),
        ("atd/cifar10/ipc10", "att/cifar10/ipc10"),
        ("att-cifar10-ipc10", "att/cifar10/ipc10"),
        ("att/cifar10/ipc10/", "att/cifar10/ipc10"),
    ],
)
def test_the_nearest_recipe_is_offered_and_never_all(name: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        recipes.get(name)
    assert str(caught.value) == f"unknown recipe {name!r}; did you mean {meant!r}? see `attcli recipes`"


@pytest.mark.parametrize("name", ["", "surprise", "x" * 3000])
def test_nothing_is_offered_for_what_is_like_no_recipe(name: str) -> None:
    with pytest.raises(UserError, match=r"^unknown recipe '[^']*'; see `attcli recipes`$"):
        recipes.get(name)


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("lr=3", ("'buffer.lr'", "'evaluate.lr'", "'distill.lr_img'")),
        ("ipc=3", ("'distill.ipc'",)),
        ("LR=3", ("'buffer.lr'", "'evaluate.lr'")),
        ("epochs=3", ("'buffer.epochs' or 'evaluate.epochs'",)),
        ("iteration=3", ("'distill.iterations'",)),
        ("evaluate.ipc=3", ("'distill.ipc'?",)),
        ("distill.lr=3", ("'buffer.lr' or 'evaluate.lr'?",)),
        ("distill.lr_imgs=3", ("'distill.lr_img'?",)),
        ("DISTILL.IPC=3", ("'distill.ipc'?",)),
        ("distil.ipc=3", ("'distill.ipc'?",)),
        ("distill=3", ("it is a section; write distill.NAME=VALUE",)),
        ("=3", ("see `attcli config`",)),
        ("no_such_thing_at_all=3", ("see `attcli config`",)),
        ("a\nb=1", ("'a\\nb'",)),
        ("x" * 5000 + "=1", ("see `attcli config`",)),
    ],
)
def test_settings_that_may_be_meant_are_offered(text: str, offered: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="unknown setting in --set") as caught:
        assignment(text)
    message = str(caught.value)
    assert all(words in message for words in offered)
    assert len(message.splitlines()) == 1
    assert len(message) < 350


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("train: {lr: 3}\n", "params.yaml, line 1", "if params.yaml is not attcli's, name another file with --params"),
        ("\nmodel: resnet\ntrain: {lr: 3}\n", "params.yaml, line 2", "--params FILE, or work in another folder"),
        ("prepare:\n  split: 0.2\n  seed: 1\n", "params.yaml, line 2", "--params FILE"),
        ("prepare: 20\n", "params.yaml, line 1", "--params FILE"),
        ("prepare:\n", "params.yaml, line 1", "section 'prepare' must hold settings"),
        ("seed: 1\ndistil: {ipc: 1}\n", "params.yaml, line 2", "did you mean 'distill'?"),
        ("lr: 3\n", "params.yaml, line 1", "did you mean 'buffer.lr' or 'evaluate.lr'?"),
        ("distill:\n  ipcs: 1\n", "params.yaml, line 2", "did you mean 'distill.ipc'?"),
        ("null: 1\n", "params.yaml", "--params FILE"),
        ("3: 1\n", "params.yaml, line 1", "--params FILE"),
    ],
)
def test_a_file_of_another_program_is_told_with_the_way_out(text: str, place: str, words: str) -> None:
    Path("params.yaml").write_text(text)
    message = refused({})
    assert place in message
    assert words in message
    Path("mine.yaml").write_text("distill: {ipc: 10}\n")
    assert resolve({}, Path("mine.yaml"), environ={}).settings.distill.ipc == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distill: {ipc: ten}", "distill.ipc: input should be a whole number, not 'ten'"),
        ("distill: {ipc: 1.5}", "distill.ipc: input should be a whole number, not 1.5"),
        ("distill: {ipc: true}", "distill.ipc: input should be a number, not true"),
        ("distill: {lr_img: false}", "distill.lr_img: input should be a number, not false"),
        ("distill: {ipc: }", "distill.ipc: input should be a whole number, not null"),
        ("distill: {method: }", "distill.method: input should be a word, not null"),
        ("prepare: {dataset: 3}", "prepare.dataset: input should be a word, not 3"),
        ("prepare: {dataset: 2020-01-01}", "prepare.dataset: input should be a word, not 2020-01-01"),
        ("evaluate: {archs: [3]}", "evaluate.archs: input should be a word, not 3"),
        ("evaluate: {random_lrs: x}", "evaluate.random_lrs: input should be a list, as [a, b], not 'x'"),
        ("buffer: {epochs: few}", "buffer.epochs: input should be a whole number or 'auto', not 'few'"),
        ("buffer: {adaptive: maybe}", "buffer.adaptive: input should be true or false, not 'maybe'"),
        ("distill: {lr_img: -1}", "distill.lr_img: input should be greater than or equal to 0, not -1"),
    ],
)
def test_a_wrong_value_is_told_with_its_line_and_what_is_expected(text: str, message: str) -> None:
    Path("p.yml").write_text(f"seed: 1\n\n{text}\n")
    assert refused({}, Path("p.yml")) == f"{message} (from p.yml, line 3); see `attcli config --schema`"


def test_a_value_that_unfolds_without_end_is_shown_in_few_words() -> None:
    lines = ["distill:", "  ipc: &a0 [x]"]
    tower = [f"    - &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(30)]
    Path("params.yaml").write_text("\n".join([*lines, "  lr_img:", *tower]))
    assert len(refused({})) < 300


def test_a_switch_may_be_written_as_usual() -> None:
    Path("params.yaml").write_text("buffer: {adaptive: false}\n")
    assert resolve(environ={}).settings.buffer.adaptive is False


def test_joined_methods_may_have_a_recipe_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "att+uint8" / "cifar10.yaml"
    own.parent.mkdir()
    own.write_text(
        "sources: {here: made up}\nrecipes:\n  att+uint8/cifar10/ipc1:\n    title: T\n    values:\n"
        "      distill.lr_img: [7, here]\n"
    )
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    found = recipes.find("att+uint8", "cifar10", 1)
    assert found is not None
    assert found.name == "att+uint8/cifar10/ipc1"
    settings = resolve(found.experiment.settings(), environ={}, ignore_params=True).settings.distill
    assert (settings.lr_img, settings.storage, settings.select) == (7, "uint8", "nearest")
    assert recipes.find("att+nothing", "cifar10", 1) is None
