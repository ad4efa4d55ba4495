"""`attcli init`: the files that it writes, and that `dvc repro` runs by them in a folder without attcli's sources."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from attcli.settings import resolve
from attcli.settings.layers import values_of
from tests.conftest import Cli
from tests.dvc_deps import REPOSITORY


def read(path: Path) -> dict:
    return YAML(typ="safe", pure=True).load(path.read_text())


def test_the_pipeline_is_that_of_the_repository_without_its_sources(cli: Cli) -> None:
    cli("init", "--dataset", "digits")
    own, ours = read(Path("dvc.yaml")), read(REPOSITORY / "dvc.yaml")
    for stage in ours["stages"].values():
        deps = [dep for dep in stage.pop("deps", []) if not dep.startswith("attcli/")]
        stage.update({"deps": deps} if deps else {})
    assert own == ours


def test_all_settings_are_in_params(cli: Cli) -> None:
    output = cli("init", "--dataset", "cifar10", "--method", "datm", "--ipc", "10", "--set", "buffer.experts=7")
    assert "wrote dvc.yaml\nwrote params.yaml\nwrote .gitignore\nwrote .dvcignore\n" in output
    listed = json.loads(cli("config", "--json"))
    asked = {"prepare.dataset": "cifar10", "distill.method": "datm", "distill.ipc": 10, "buffer.experts": 7}
    expected = values_of(resolve(asked, environ={}, ignore_params=True).settings)
    assert {name: entry["value"] for name, entry in listed.items()} == expected
    assert {name for name, entry in listed.items() if entry["from"] != "params.yaml"} == {
        name for name in listed if name.startswith("runtime.")
    }
    assert "from recipe datm/cifar10/ipc10" in Path("params.yaml").read_text().splitlines()[0]
    assert "/data/" in Path(".gitignore").read_text().splitlines()


def test_nothing_is_overwritten_without_force(cli: Cli) -> None:
    Path("params.yaml").write_text("train: {lr: 3}\n")
    Path(".gitignore").write_text("*.log")
    assert (
        "params.yaml is there already; begin in another folder, or add --force, which replaces what you wrote into it"
        in cli("init", "--dataset", "digits", code=2)
    )
    assert sorted(path.name for path in Path().iterdir()) == [".gitignore", "params.yaml"]
    assert Path("params.yaml").read_text() == "train: {lr: 3}\n"
    assert "added lines to .gitignore" in cli("init", "--dataset", "digits", "--force")
    lines = Path(".gitignore").read_text().splitlines()
    assert lines[:2] == ["*.log", "/artifacts/*"]
    cli("init", "--dataset", "digits", "--force")
    assert Path(".gitignore").read_text().splitlines() == lines


def test_files_in_any_encoding_and_with_any_line_ends_keep_what_they_hold(cli: Cli) -> None:
    kept = b"# caf\xe9\r\n*.log"
    Path(".gitignore").write_bytes(kept)
    cli("init", "--dataset", "digits")
    after = Path(".gitignore").read_bytes()
    assert after.startswith(kept + b"\r\n/artifacts/*\r\n")
    cli("init", "--dataset", "digits", "--force")
    assert Path(".gitignore").read_bytes() == after


def test_files_that_settings_name_are_dependencies(cli: Cli) -> None:
    sets = ("distill.start_from=first.h5", "distill.init=ranked", "buffer.difficulty=scores.npy")
    flags = [word for value in sets for word in ("--set", value)]
    Path("first.h5").touch()
    Path("scores.npy").touch()
    cli("init", "--dataset", "digits", "--method", "real-loss", *flags)
    stages = YAML(typ="safe").load(Path("dvc.yaml"))["stages"]
    assert stages["distill"]["deps"][-2:] == ["scores.npy", "first.h5"]
    assert "scores.npy" not in stages["buffer"]["deps"]
    said = cli("init", "--dataset", "digits", "--force", "--set", "runtime.device=cpu", code=2)
    assert "runtime.device depends on the machine" in said
    assert "set the variable ATTCLI_DEVICE on the machine" in said


def test_what_is_left_to_do_is_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attcli.cli.init.which", lambda name: None)
    assert "next: `pip install 'attcli[dvc]'`, then `git init" in cli("init", "--dataset", "digits", "--force")
    monkeypatch.setattr("attcli.cli.init.which", lambda name: f"/usr/bin/{name}")
    assert "next: `git init && dvc init`" in cli("init", "--dataset", "digits", "--force")
    Path(".git").mkdir()
    assert "next: `dvc init`, then `dvc repro`" in cli("init", "--dataset", "digits", "--force")
    Path(".dvc").mkdir()
    assert "next: `dvc repro`" in cli("init", "--dataset", "digits", "--force")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dataset", "digit"), "unknown dataset 'digit'; did you mean 'digits'?"),
        (("--dataset", "digits", "--set", "runtime.artifacts=x"), "runtime.artifacts cannot be set here"),
        (("--dataset", "folder", "--data-dir", "nowhere"), "nowhere"),
    ],
)
def test_what_is_refused_leaves_no_files(words: tuple[str, ...], message: str, cli: Cli) -> None:
    assert message in cli("init", *words, code=2)
    assert not list(Path().iterdir())


def test_what_is_printed_next_works_as_typed(cli: Cli) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    pictures(Path("sub/my images"))
    os.chdir("sub")
    said = cli("init", "--dataset", "folder", "--data-dir", "my images", "--set", "buffer.batch=8")
    assert "`dvc init --subdir`" in said
    assert "`attcli evaluate --dry-run --data-dir 'my images'`" in said
    assert "experts" in cli("evaluate", "--dry-run", "--data-dir", "my images")


def test_a_project_is_not_among_the_images_that_it_depends_on(cli: Cli) -> None:
    pictures(Path("photos"))
    Path("photos/project").mkdir()
    Path("linked").symlink_to("photos")
    for place, data in (("photos", "."), ("photos/project", ".."), ("photos", "../linked")):
        with contextlib.chdir(place):
            sets = ("--set", "buffer.batch=8", "--set", "prepare.classes=[bright, dark]")
            said = cli("init", "--dataset", "folder", "--data-dir", data, *sets, code=2)
            assert "which also holds this project: DVC can't have its results in what they depend on" in said
            assert not Path("dvc.yaml").exists()


def pictures(folder: Path) -> None:
    """Two classes of small grey images: bright ones and dark ones, with noise."""
    draw = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 50)):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            image = np.clip(draw.normal(level, 20, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / name / f"{number}.png")


SMALL = {
    "network.width": 4, "network.depth": 1, "buffer.experts": 1, "buffer.batch": 8, "distill.iterations": 2,
    "distill.syn_steps": 3, "distill.expert_epochs": 1, "distill.max_start_epoch": 1, "distill.save_every": 1,
    "evaluate.epochs": 2, "evaluate.repeats": 1,
}  # fmt: skip


@pytest.mark.slow
def test_dvc_runs_a_project_of_own_images_and_sees_what_changes(cli: Cli) -> None:
    pictures(Path("my images"))
    sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    cli("init", "--dataset", "folder", "--data-dir", "my images", *sets)
    Path("bin").mkdir()
    script = Path("bin/attcli")
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m attcli "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join([str(script.parent.absolute()), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "ATTCLI_THREADS": "1"}

    def dvc(*words: str) -> str:
        command = [sys.executable, "-m", "dvc", *words]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    dvc("init", "-q", "--no-scm")
    output = dvc("repro")
    for stage in ("prepare", "buffer", "distill", "evaluate"):
        assert f"Running stage '{stage}'" in output
    scores = json.loads(Path("artifacts/scores.json").read_text())["scores"]
    assert 0 <= scores["convnet"]["synthetic"]["mean"] <= 100
    assert "Running stage" not in dvc("repro")
    assert "scores.json" in dvc("metrics", "show")
    next(Path("my images/dark").iterdir()).unlink()
    assert "Running stage 'prepare'" in dvc("repro", "prepare")
