"""Runs to report: one with all its parts, and several that lack some or are of another kind."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attcli.cli import app
from attcli.report import gather
from attcli.report.model import Facts
from tests.conftest import SMALL

SETS = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


def invoke(folder: Path, *commands: list[str]) -> None:
    """Run commands with the small run's settings in a folder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for words in commands:
            result = CliRunner().invoke(app, [words[0], *SETS, *words[1:]])
            assert result.exit_code == 0, result.output


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run that was distilled in two parts and scored by all three rules; not to be changed."""
    folder = tmp_path_factory.mktemp("scored")
    invoke(
        folder,
        ["distill", "--iterations", "2"],
        ["distill"],
        ["evaluate", "--archs", "convnet,mlp", "--baselines", "random"],
        ["evaluate", "--snapshots", "--literature"],
    )
    return folder


@pytest.fixture
def copy(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which commands run in."""
    folder = tmp_path / "copy"
    shutil.copytree(scored, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def facts(scored: Path) -> Facts:
    """The data of that run's report."""
    return gather.facts(scored / "artifacts", [scored / ".attcli"], "small")


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Results of sets that are no float32 pixels, by name, without scores."""
    folder = tmp_path_factory.mktemp("others")
    kinds = {
        "multiformation": ["--method", "att+multiformation+uint8"],
        "frequency": ["--method", "att+fred"],
        "codes": ["--method", "att+codes"],
        "soft": ["--method", "att", "--ipc", "2", "--set", "distill.labels=learned"],
    }
    for name, words in kinds.items():
        invoke(folder, ["distill", "--iterations", "1", "--artifacts", name, *words])
    return {name: folder / name for name in kinds}
