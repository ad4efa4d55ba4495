"""What is said of names that nothing has: one line, with what was probably meant."""

import pickle
from pathlib import Path

import pytest

from attcli import methods, registry
from attcli.errors import DamagedError, UserError, brief


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x00b", "a\x1b[31mb", "a\u2028b", "a\x85b", "a\udcffb", "a\tb"])
def test_every_error_is_one_line_that_can_be_printed(text: str) -> None:
    for error in (UserError(text), DamagedError(text), pickle.loads(pickle.dumps(UserError(text)))):
        assert len(str(error).splitlines()) == 1
        assert str(error).startswith("a ")
        assert str(error).endswith("b")
        str(error).encode()
    with pytest.raises(UserError) as caught:
        registry.known(f"setting in {text}", text, ["x"])
    assert len(str(caught.value).splitlines()) == 1


def test_names_in_any_script_stay_as_they_are() -> None:
    for name in ("日本語", "हिन्दी", "می\u200cخواهم", "é"):
        assert str(UserError(name)) == name


def test_values_are_shown_in_few_characters_however_much_they_hold() -> None:
    tower: list = ["x"]
    for _ in range(40):
        tower = [tower] * 10  # 10**40 words, if they were written out
    for value in (tower, {"a": tower}, "x" * 10**6, list(range(10**6)), 10**4000):
        assert len(brief(value)) < 100
    assert [brief(value) for value in (None, True, False, "a", 1.5)] == ["null", "true", "false", "'a'", "1.5"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("att,datm", "att+datm"),
        ("att, datm", "att+datm"),
        ("ATT,DATM", "att+datm"),
        ("att datm", "att+datm"),
        ("att/datm", "att+datm"),
        ("att;datm", "att+datm"),
        ("mtt++ftd", "mtt+ftd"),
        ("mtt,ftd,datm", "mtt+ftd+datm"),
    ],
)
def test_methods_that_are_joined_otherwise_are_understood(name: str, meant: str) -> None:
    with pytest.raises(UserError, match="methods are joined by") as caught:
        methods.load(name)
    assert f"did you mean {meant!r}?" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"), [("att+", "att"), ("+datm", "datm"), ("att+dattm", "datm"), ("mttt", "mtt")]
)
def test_methods_that_lack_a_name_or_misspell_one(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"did you mean '{meant}'") as caught:
        methods.load(name)
    assert "joined by" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "./myimages",
        "../data/train",
        "~/images",
        "/data/imagenet",
        "C:\\images",
        ".",
        "data",
        "photos",
        "image_folder",
        "ImageFolder",
    ],
)
def test_a_folder_is_told_from_a_dataset(name: str) -> None:
    for folder in ("data", "photos"):
        Path(folder).mkdir()
    with pytest.raises(UserError) as caught:
        registry.dataset(name)
    assert registry.OWN_IMAGES in str(caught.value)
    assert "did you mean" not in str(caught.value)
    assert "there are: cifar10, cifar100, digits" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cifar11", "cifar10"),
        ("Cifar11", "cifar10"),
        ("cifar10/", "cifar10"),
        ("imagewof", "imagewoof"),
        ("digit", "digits"),
    ],
)
def test_a_misspelt_dataset_is_no_folder(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"did you mean '{meant}'") as caught:
        registry.dataset(name)
    assert "for a folder" not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 3000, "x/" * 3000, "a\0b", "", "things", "日本"])
def test_any_other_name_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown dataset .* there are: cifar10") as caught:
        registry.dataset(name)
    assert len(str(caught.value)) < 350
