"""dvc.yaml against the code, and what `dvc repro` runs, skips and restores."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from attcli.settings.models import CONTENT
from attcli.stages import pipeline as stages
from attcli.stages.run import Run
from tests.dvc_deps import REPOSITORY, STAGES, imported


@pytest.fixture(scope="module")
def pipeline() -> dict:
    return YAML(typ="safe", pure=True).load((REPOSITORY / "dvc.yaml").read_text())


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_modules_that_a_stage_imports(pipeline: dict, stage: str) -> None:
    listed = [dep for dep in pipeline["stages"][stage]["deps"] if dep.startswith("attcli/")]
    assert listed == imported(stage, grimp.build_graph("attcli", cache_dir=None)), "run `make deps`"
    assert all((REPOSITORY / dep).exists() for dep in listed)


@pytest.mark.parametrize("stage", STAGES)
def test_stages_are_commands_that_make_nothing_else(pipeline: dict, stage: str) -> None:
    assert pipeline["stages"][stage]["cmd"] == f"attcli {stage} --no-auto"
    sections = {name.split(".")[0] for name in pipeline["stages"][stage]["params"]}
    assert sections <= set(CONTENT)
    assert {"seed", stage} <= sections


def test_metrics_and_plots_are_not_cached(pipeline: dict) -> None:
    shown = [*pipeline["stages"]["evaluate"]["metrics"], *pipeline["stages"]["distill"]["plots"]]
    assert [next(iter(entry.values()))["cache"] for entry in shown] == [False] * 3


def test_no_experts_are_trained_where_nothing_reads_them(
    pipeline: dict, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "buffer")
    alone: dict[str, object] = {"distill__objective": "gradient", "distill__iterations": 1}
    run = make_run(auto=False, **alone)
    stages.prepare(run)
    stages.buffer(run)
    assert list(run.experts.iterdir()) == []
    stages.distill(run)
    assert run.synthetic.exists()
    for changes in (
        {"distill__objective": "trajectory"},
        {"distill__init": "correct"},
        {"distill__labels": "learned", "distill__label_init": "experts"},
        {"distill__objective": "real-loss", "distill__student_start": "expert"},
    ):
        assert make_run(**{**alone, **changes}).settings.reads_experts
        assert {name.replace("__", ".") for name in changes} <= {*pipeline["stages"]["buffer"]["params"]}


class Checkout:
    """A copy of the repository with a pipeline that takes seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = ("attcli", ".dvc", "dvc.yaml", "params.yaml", ".dvcignore", ".gitignore")
        for name in kept:
            source = REPOSITORY / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder / name)
        (folder / "bin").mkdir()
        script = folder / "bin" / "attcli"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m attcli "$@"\n')
        script.chmod(0o755)
        self.edit(width=4, experts=1, iterations=2, syn_steps=3, expert_epochs=1, epochs=2, repeats=1, save_every=1)

    def edit(self, **changes: object) -> None:
        lines = (self.folder / "params.yaml").read_text().splitlines()
        for name, value in changes.items():
            (position,) = [i for i, line in enumerate(lines) if line.startswith(f"  {name}: ") and "auto" not in line]
            lines[position] = f"  {name}: {value}"
        (self.folder / "params.yaml").write_text("\n".join(lines) + "\n")

    def run(self, *words: str) -> str:
        path = f"{self.folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "ATTCLI_THREADS": "1"}
        result = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def repro(self) -> list[str]:
        """The stages that `dvc repro` ran, as it says."""
        output = self.run(sys.executable, "-m", "dvc", "repro")
        return [stage for stage in STAGES if f"Running stage '{stage}'" in output]


def dvc(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "dvc", *words)


def test_repro_runs_what_changed_and_restores_what_was(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.run("git", "init", "-q")
    assert checkout.repro() == list(STAGES)
    first = {path: path.read_bytes() for path in (checkout.folder / "artifacts").rglob("*.h5")}
    scores = (checkout.folder / "artifacts" / "scores.json").read_text()
    assert checkout.repro() == []
    checkout.run("git", "config", "user.name", "x")
    checkout.run("git", "config", "user.email", "x@localhost")
    checkout.run("git", "add", "--all")
    checkout.run("git", "commit", "-qm", "first")
    output = checkout.run(*dvc("exp", "run", "-n", "two", "-S", "distill.ipc=2"))
    assert [stage for stage in STAGES if f"Running stage '{stage}'" in output] == ["distill", "evaluate"]
    assert (checkout.folder / "artifacts" / "scores.json").read_text() != scores
    assert_experiments_show_scores(checkout)
    assert "index.html" in checkout.run(*dvc("plots", "show"))
    assert "index.html" in checkout.run(*dvc("plots", "diff", "HEAD"))
    checkout.edit(ipc=1)
    assert checkout.repro() == []
    assert {path: path.read_bytes() for path in (checkout.folder / "artifacts").rglob("*.h5")} == first
    assert (checkout.folder / "artifacts" / "scores.json").read_text() == scores


def assert_experiments_show_scores(checkout: Checkout) -> None:
    """Every revision has its accuracy, in few columns, and they can be compared."""
    name = "scores.convnet.synthetic.mean"
    assert len(checkout.run(*dvc("metrics", "show")).splitlines()[0].split()) <= 1 + 3 * 3
    header, *lines = csv.reader(checkout.run(*dvc("exp", "show", "--csv")).splitlines())
    shown = [line[header.index(name)] for line in lines if len(line) == len(header)]
    assert len(shown) == 3  # the work folder, the commit and the experiment
    assert all(0 <= float(value) <= 100 for value in shown)
    (compared,) = [line for line in checkout.run(*dvc("metrics", "diff", "--all")).splitlines() if name in line]
    assert "-" not in compared.split()[2:4]


def test_repro_of_an_unpacked_archive(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.run(*dvc("config", "--local", "core.no_scm", "true"))
    checkout.run(*dvc("repro", "prepare"))
    assert (checkout.folder / "artifacts" / "dataset.h5").exists()
