"""What the tests share: a small, complete run on the embedded digits."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets
import torch
from sklearn.utils import Bunch
from typer.testing import CliRunner, Result

from attcli import container, progress, runtime
from attcli.settings import Settings, resolve
from attcli.stages import rates
from attcli.stages.run import Run

LONGEST = ("test_ranks.py", "test_dvc.py", "test_engines.py", "test_coded_sets.py", "test_compiled_networks.py")
"""Files that take longest; they begin first, so that two workers end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


SMALL = {
    "prepare.dataset": "digits",
    "prepare.normalise": "standardise",
    "prepare.validation": 100,
    "network.width": 8,
    "network.depth": 2,
    "buffer.augment": "crop_scale_rotate",
    "distill.augment": "crop_scale_rotate",
    "buffer.experts": 2,
    "buffer.batch": 256,
    "buffer.lr": 0.05,
    "distill.iterations": 6,
    "distill.syn_steps": 5,
    "distill.expert_epochs": 2,
    "distill.max_start_epoch": 2,
    "distill.lr_img": 1.0,
    "distill.lr_init": 0.03,
    "distill.lr_lr": 1e-5,
    "distill.save_every": 2,
    "distill.ema_decay": 0.9,
    "evaluate.epochs": 4,
    "evaluate.repeats": 2,
}

LOAD_DIGITS = sklearn.datasets.load_digits


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits are read from their text once, and rates are measured briefly, as hundreds of tests need both."""
    monkeypatch.setattr(sklearn.datasets, "load_digits", _digits)
    monkeypatch.setattr(rates, "MEASURED_SECONDS", 0.0)


@cache
def _digits() -> Bunch:
    return LOAD_DIGITS()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    progress.configure("quiet")
    yield
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])


@pytest.fixture(autouse=True)
def _device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _one_thread: None) -> None:
    """Where there is a GPU, tests use it with the kernels that commands use; those that are marked so do not see it."""
    if not torch.cuda.is_available():
        return
    if request.node.get_closest_marker("cpu"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    else:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
        runtime.configure(None, deterministic=True)


@pytest.fixture(autouse=True)
def _no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """No container is seen, even where the tests run in one, as commands say more there."""
    monkeypatch.setattr(container, "MARKS", {})
    for name in (*container.VARIABLES, container.OWN_MARK):
        monkeypatch.delenv(name, raising=False)


def settings_in(folder: Path, **changes: object) -> Settings:
    """The small run's settings with its results in `folder`; changes are dotted names with __ for the dot."""
    flags = {**SMALL, "runtime.artifacts": str(folder / "artifacts"), "runtime.work_dir": str(folder / ".attcli")}
    flags |= {name.replace("__", "."): value for name, value in changes.items()}
    return resolve(flags, environ={}, ignore_params=True).settings


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A run in the test's folder, or in `folder`, with changed settings; auto and force as in Run."""

    def make(folder: Path | None = None, *, auto: bool = True, force: bool = False, **changes: object) -> Run:
        return Run(settings_in(folder or tmp_path, **changes), auto=auto, force=force)

    return make


@pytest.fixture
def move_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """By a stand-in: another machine's rounding gives the same whitening another hash."""
    from attcli.data import normalise

    fit = normalise.fit_chunks

    def rounded_otherwise(*arguments: Any) -> normalise.Normaliser:
        fitted = fit(*arguments)
        assert fitted.values is not None
        return replace(fitted, values=fitted.values * (1 + 1e-6))

    return lambda: monkeypatch.setattr(normalise, "fit_chunks", rounded_otherwise)


class Cli:
    """Calls the command line in this process, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runner = CliRunner()

    def __call__(self, *words: str, code: int = 0) -> str:
        """What a command prints on stdout, or all that a refused one prints; fails unless it exits with `code`."""
        result = self._invoke(words, code)
        return result.output if code else result.stdout

    def _invoke(self, words: Sequence[str], code: int = 0) -> Result:
        from attcli.cli import app

        result = self._runner.invoke(app, list(words))
        problem = "" if result.exception is None else f"\n{result.exception!r}"
        assert result.exit_code == code, f"exit {result.exit_code}: {result.output}{problem}"
        return result

    def small(self, *words: str, code: int = 0) -> str:
        """A command with the small run's settings."""
        return self(*self._with_small(words), code=code)

    def small_log(self, *words: str, code: int = 0) -> str:
        """What such a command logs on stderr."""
        return self._invoke(self._with_small(words), code).stderr

    @staticmethod
    def _with_small(words: Sequence[str]) -> list[str]:
        sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
        return [words[0], *sets, *words[1:]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path)
