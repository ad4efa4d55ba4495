"""A method's choices as a layer of the settings, and what a params.yaml of another method keeps."""

from pathlib import Path
from typing import Any

import pytest

from attcli.errors import UserError
from attcli.settings import Resolved, resolve


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def asked(**flags: Any) -> Resolved:
    return resolve({name.replace("__", "."): value for name, value in flags.items()}, environ={})


def digits(method: str, **flags: Any) -> Resolved:
    return asked(distill__method=method, prepare__dataset="digits", distill__ipc=1, **flags)


@pytest.mark.parametrize(
    ("method", "choices"),
    [
        ("mtt", ("sgd", "last", "fixed", "hard", "real", None, "adjoint")),
        ("att", ("sgd", "nearest", "fixed", "hard", "real", None, "adjoint")),
        ("ftd", ("ftd", "last", "fixed", "hard", "real", None, "adjoint")),
        ("tesla", ("sgd", "last", "fixed", "hard", "real", None, "tesla")),
        ("datm", ("ftd", "last", "expanding", "learned", "correct", 1.0, "adjoint")),
        ("att+datm", ("ftd", "nearest", "expanding", "learned", "correct", 1.0, "adjoint")),
        ("att+ftd", ("ftd", "nearest", "fixed", "hard", "real", None, "adjoint")),
    ],
)
def test_choices(method: str, choices: tuple[object, ...]) -> None:
    settings = digits(method).settings
    distill = settings.distill
    found = (distill.select, distill.window, distill.labels, distill.init, distill.max_loss, distill.engine)
    assert (settings.buffer.trainer, *found) == choices


def test_an_axis_can_be_set_by_itself() -> None:
    found = digits("mtt", distill__select="nearest", distill__labels="learned", buffer__trainer="ftd")
    assert found.origin["distill.select"] == "flag"
    assert found.settings.distill.select == "nearest"
    assert found.settings.distill.labels == "learned"
    assert found.settings.buffer.trainer == "ftd"


def test_a_recipe_comes_before_its_methods_choices() -> None:
    found = asked(distill__method="datm", prepare__dataset="cifar10", distill__ipc=1)
    assert found.settings.distill.max_loss == 1.1
    assert found.settings.distill.window == "fixed"
    found = asked(distill__method="datm", prepare__dataset="cifar100", distill__ipc=50)
    assert found.settings.distill.init == "real"


def test_a_combination_takes_the_recipe_of_its_last_method_but_its_own_choices() -> None:
    found = asked(distill__method="att+datm", prepare__dataset="cifar10", distill__ipc=1)
    assert found.recipe == "datm/cifar10/ipc1"
    assert found.settings.distill.select == "nearest"
    assert found.settings.distill.max_loss == 1.1  # a deviation of the recipe from its method stays
    found = asked(distill__method="datm+att", prepare__dataset="cifar10", distill__ipc=1)
    assert found.recipe == "att/cifar10/ipc1"
    assert found.settings.buffer.trainer == "ftd"  # which ATT's recipe says is sgd, as ATT does
    assert found.settings.distill.labels == "learned"


@pytest.mark.parametrize("flags", [{"distill.method": "mtt"}, {"prepare.dataset": "cifar10"}, {"distill.ipc": 10}])
def test_flags_that_contradict_a_params_file_are_an_error_with_two_ways_out(flags: dict[str, object]) -> None:
    Path("params.yaml").write_text(
        "prepare: {dataset: digits}\ndistill: {method: att, ipc: 1, select: nearest, lr_img: 7}\n"
    )
    with pytest.raises(
        UserError, match=r"work in another folder, or edit params\.yaml .*replaces all of it.*--params params\.yaml"
    ):
        resolve(flags, environ={})
    resolved = resolve(flags, Path("params.yaml"), environ={})
    assert resolved.settings.distill.lr_img == 7
    assert resolved.origin[next(iter(flags))] == "flag"
    same = {"distill.method": "ATT", "prepare.dataset": "digits", "distill.ipc": 1}
    assert resolve(same, environ={}).settings.distill.lr_img == 7


def test_a_lone_choice_in_params_stays() -> None:
    Path("params.yaml").write_text("prepare: {dataset: digits}\ndistill: {ipc: 1, select: last}\n")
    assert asked(distill__method="att").settings.distill.select == "last"
