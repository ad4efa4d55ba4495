"""The commands on a page make the same set again: they resolve to the settings that decided it."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attcli.records import changes
from attcli.records.results import Results
from attcli.records.scores import read as read_scores
from attcli.report import gather, origins
from attcli.settings import Resolved, resolve
from attcli.settings.layers import assignment, names
from attcli.stages import identity
from attcli.store import artefact, synthetic
from tests.conftest import Cli

FLAGS = {
    "--method": "distill.method",
    "--dataset": "prepare.dataset",
    "--ipc": "distill.ipc",
    "--iterations": "distill.iterations",
    "--archs": "evaluate.archs",
    "--baselines": "evaluate.baselines",
    "--artifacts": "runtime.artifacts",
}


def resolved(command: str) -> Resolved:
    """The settings that a command of the page asks for."""
    program, _, *words = shlex.split(command)
    assert program == "attcli"
    flags: dict[str, Any] = {}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        name, content = assignment(value) if flag == "--set" else (FLAGS[flag], value)
        assert name not in flags
        flags[name] = int(content) if flag in ("--ipc", "--iterations") else content
    return resolve(flags, environ={}, ignore_params=True)


def test_commands_make_the_set_of_the_run(scored: Path) -> None:
    results = scored / "artifacts"
    distill, evaluate, report = gather.facts(results, [scored / ".attcli"]).commands
    assert report == "attcli report"
    header = artefact.header(results / "synthetic.h5", synthetic.KIND, synthetic.MAKER)
    settings = resolved(distill).settings
    assert identity.distillation(settings) == header.settings
    assert settings.distill.iterations == 6
    of_experts = artefact.header(results / "experts" / "expert-0000.h5", "expert", "")
    assert (
        identity.content(settings, "buffer", "experts", "epochs", "imported") | {"seed": 0}
        == of_experts.settings["buffer"]
    )
    assert settings.epochs == 3
    assert identity.prepare(settings)[0] == artefact.header(results / "dataset.h5", "dataset", "").fingerprint
    protocol = read_scores(results, header).protocol
    assert settings.evaluate.epochs == protocol["epochs"]
    scoring = resolved(evaluate).settings.evaluate
    assert (scoring.archs, scoring.baselines, scoring.repeats) == (("convnet", "mlp"), ("random",), 2)


@pytest.mark.parametrize("name", ["multiformation", "frequency", "codes", "soft"])
def test_commands_make_sets_of_every_kind(name: str, others: dict[str, Path]) -> None:
    distill, report = gather.facts(others[name], []).commands
    assert report == f"attcli report --artifacts {name}"
    header = artefact.header(others[name] / "synthetic.h5", synthetic.KIND, synthetic.MAKER)
    assert identity.distillation(resolved(distill).settings) == header.settings


@pytest.mark.parametrize("words", [["report"], ["compare", "a", "b"]])
def test_without_matplotlib_the_remedy_is_told(words: list[str], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'attcli[plots]'" in cli(*words, code=2)


def test_commands_for_images_of_ones_own_say_where_they_are(scored: Path) -> None:
    header = artefact.header(scored / "artifacts" / "synthetic.h5", synthetic.KIND, synthetic.MAKER)
    results = Results(scored / "artifacts", [], header, {})
    own = replace(results, header=replace(header, about={**header.about, "dataset": "folder"}))
    digits = origins.commands(results, {}, [], [])[0]
    assert origins.commands(own, {}, [], [])[0] == digits.replace("digits", "folder") + " --data-dir FOLDER"
    assert "--data-dir" not in digits


def test_commands_for_what_comes_from_a_file_name_it(scored: Path) -> None:
    header = artefact.header(scored / "artifacts" / "synthetic.h5", synthetic.KIND, synthetic.MAKER)
    results = Results(scored / "artifacts", [], header, {})
    differing = {"distill.start_from": "5f" * 32, "buffer.difficulty": "sha256:" + "5f" * 32}
    words = shlex.split(origins.commands(results, differing, [], [])[0])
    assert words[-4:] == ["--set", "buffer.difficulty=FILE", "--from", "FILE"]
    imported = {**header.about, "imported": {"file": "images_best.pt", "sha256": "5f" * 32}, "method": "imported"}
    own = replace(results, header=replace(header, about=imported))
    assert origins.commands(own, {"buffer.lr": 3}, [], [])[0] == "attcli import FILE --dataset digits --ipc 1"


def test_settings_that_files_keep_under_other_names_are_told_by_their_own() -> None:
    assert changes.OTHER_NAMES["distill.difficulty"] == "buffer.difficulty"
    assert set(changes.OTHER_NAMES.values()) <= set(names())


def test_a_set_that_was_scored_alone_is_scored_alone_again(scored: Path) -> None:
    header = artefact.header(scored / "artifacts" / "synthetic.h5", synthetic.KIND, synthetic.MAKER)
    evaluate = origins.commands(Results(scored / "artifacts", [], header, {}), {}, ["convnet"], [])[1]
    assert resolved(evaluate).settings.evaluate.baselines == ()
