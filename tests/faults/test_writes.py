"""Writes that fail, at any place of any stage: one line, exit code 2, nothing damaged, and nothing lost."""

import csv
import errno
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from attcli.cli import app
from attcli.stages.run import Run
from attcli.store import artefact, experts
from tests.conftest import SMALL, settings_in
from tests.faults.faulty import failing
from tests.stages.observed import contents

STAGES = ("prepare", "buffer", "distill", "evaluate")
FAULTS = {"ENOSPC": False, "EDQUOT": False, "EIO": False, "EIO once": True}
"""Errors of the system, and whether only one call meets it."""
PLACES = None if os.environ.get("ATTCLI_TEST_EVERY_WRITE") else 4
"""Places at which each error is tried in a stage; None: all."""


def call(stage: str, folder: Path) -> tuple[int, str]:
    """A stage by the command line, in `folder`: its exit code, and what it says on stderr."""
    os.chdir(folder)
    sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    result = CliRunner().invoke(app, [stage, "--no-auto", *sets])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


def run_of(folder: Path) -> Run:
    return Run(settings_in(folder))


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders in which the stages before each one are done, and `done`, in which all are."""
    there, folders = Path.cwd(), {}
    begun = tmp_path_factory.mktemp("steps")
    folder = begun / STAGES[0]
    folder.mkdir()
    for stage, after in zip(STAGES, (*STAGES[1:], "done"), strict=True):
        folders[stage] = folder
        following = begun / after
        shutil.copytree(folder, following)
        folder = following
        assert call(stage, folder)[0] == 0
    folders["done"] = folder
    os.chdir(there)
    return folders


def assert_whole(folder: Path) -> None:
    """Every artefact that has a final name is whole."""
    for path in folder.rglob("*.h5"):
        if not path.name.startswith("."):
            name = path.stem.partition("-")[0]
            if name.startswith("expert"):
                experts.read(path)
            else:
                kinds = ("dataset", "synthetic", "history", "normaliser", "training")
                artefact.read(path, name if name in kinds else "snapshot", "x")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_write_that_fails_ends_in_one_line_and_loses_nothing(
    stage: str, fault: str, steps: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, once = getattr(errno, fault.split(maxsplit=1)[0]), FAULTS[fault]
    monkeypatch.chdir(tmp_path)
    counted = tmp_path / "counted"
    shutil.copytree(steps[stage], counted)
    with failing(str(tmp_path), 0, number) as disk:
        assert call(stage, counted)[0] == 0
    places = np.random.default_rng(number).permutation(disk.calls)[:PLACES] + 1
    for place in map(int, places):
        folder = tmp_path / str(place)
        shutil.copytree(steps[stage], folder)
        with failing(str(tmp_path), place, number, once=once):
            code, said = call(stage, folder)
        assert_whole(folder)
        if code or not once:  # a link that fails once is replaced by a copy
            lines = [line for line in said.splitlines() if line.startswith("attcli:")]
            assert code == 2, f"place {place} of {disk.calls}: {said}"
            assert len(lines) == 1
            assert os.strerror(number) in lines[0]
            assert call(stage, folder)[0] == 0
        last = STAGES.index(stage) + 1
        wanted = steps[(*STAGES, "done")[last]]
        left, expected = published(folder), published(wanted)
        assert left.keys() == expected.keys(), f"place {place} of {disk.calls}"
        different = [name for name in expected if left[name] != expected[name]]
        assert not different, f"place {place} of {disk.calls}"


def published(folder: Path) -> dict[str, object]:
    """All files among the results by name and bytes; of the history, all but the seconds and what it was run on."""
    artifacts = folder / "artifacts"
    files = {str(p.relative_to(artifacts)): p for p in sorted(artifacts.rglob("*")) if p.is_file()}
    return {name: _content(path) for name, path in files.items() if path.name != ".lock"}


def _content(path: Path) -> object:
    if path.name == "history.h5":
        header, arrays = artefact.read(path, "history", "x")
        return header.fingerprint, {name: array.tobytes() for name, array in arrays.items() if name != "seconds"}
    if path.name == "history.csv":
        with path.open() as file:
            return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return path.read_bytes()


@pytest.mark.parametrize("kilobytes", [120, 200, 280, 2000])
def test_a_disk_that_fills_up(kilobytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small file system here")
    try:
        codes = {}
        for stage in STAGES:
            code, said = call(stage, small)
            codes[stage] = code
            if code:
                assert code == 2
                assert "No space left on device" in said or "missing" in said
        assert (2 in codes.values()) == (kilobytes < 1000)
        assert_whole(small)
        subprocess.run(["mount", "-o", "remount,size=50m", small], check=True)
        for stage in STAGES:
            assert call(stage, small)[0] == 0
        whole = contents(run_of(small))
    finally:
        os.chdir(tmp_path)
        subprocess.run(["umount", small], check=False)
    assert whole
