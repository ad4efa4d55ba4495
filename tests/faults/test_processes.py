"""Processes that meet: none mixes its results with another's, and none dies of sharing what is finished."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from attcli import progress
from attcli.atomic import atomic
from attcli.errors import OutOfTimeError, UserError
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import synthetic
from tests.conftest import settings_in
from tests.processes import CONTEXT
from tests.stages.observed import contents
from tests.store.held import hold


def distil(folder: str, name: str, seed: int) -> None:
    """A distillation in a process of its own; its results are in a folder of that name, the work is shared."""
    import torch

    torch.set_num_threads(1)
    progress.configure("quiet")
    where = {"runtime__artifacts": f"{folder}/{name}", "runtime__work_dir": f"{folder}/.attcli"}
    pipeline.distill(Run(settings_in(Path(folder), distill__seed=seed, **where)))


def distil_slowly(folder: str, iterating: str, until: str) -> None:
    """A distillation that stops before its first iteration until a file is there; it writes down every iteration."""
    from loguru import logger

    from attcli.stages import distill

    real = distill.Loop.iterate

    def iterate(self: distill.Loop, *inputs: Any) -> Any:
        with Path(folder, f"iterations-{os.getpid()}").open("a") as file:
            file.write("x")
        Path(iterating).touch()
        while not Path(until).exists():
            time.sleep(0.01)
        return real(self, *inputs)

    distill.Loop.iterate = iterate  # type: ignore[method-assign]
    progress.configure("quiet")
    logger.add(Path(folder) / f"log-{os.getpid()}", level="INFO")
    pipeline.distill(Run(settings_in(Path(folder))))


def wait_until(happened: Callable[[], bool], process: Any) -> None:
    """Wait while a process is alive; it has to be when this returns."""
    while not happened():
        assert process.is_alive()
        time.sleep(0.01)


def test_a_command_that_is_started_twice_waits_and_finds_the_work_done(tmp_path: Path) -> None:
    alone, shared = Run(settings_in(tmp_path / "alone")), tmp_path / "shared"
    pipeline.distill(alone)
    shared.mkdir()
    iterating, until = tmp_path / "iterating", tmp_path / "until"
    first, second = (
        CONTEXT.Process(target=distil_slowly, args=(str(shared), str(iterating), str(until))) for _ in range(2)
    )
    first.start()
    wait_until(iterating.exists, first)
    with pytest.raises(UserError, match="another attcli works in"):
        pipeline.distill(Run(settings_in(shared, distill__seed=1)))
    second.start()
    log = shared / f"log-{second.pid}"
    wait_until(lambda: log.exists() and "another attcli does the same work in" in log.read_text(), second)
    until.touch()
    for process in (first, second):
        process.join()
        assert process.exitcode == 0
    assert [len(file.read_text()) for file in shared.glob("iterations-*")] == [6]
    assert contents(Run(settings_in(shared))) == contents(alone)


def test_results_folders_inside_another_ones_are_not_swept(tmp_path: Path) -> None:
    outer = Run(settings_in(tmp_path)).settings.runtime.artifacts
    folders = [outer / name for name in ("inner", "experts", "snapshots", "experts/inner")]
    with ExitStack() as stack:
        unfinished = []
        for folder in folders:
            inner = Run(settings_in(tmp_path, runtime__artifacts=str(folder)))
            stack.enter_context(inner.publishing())
            unfinished.append(stack.enter_context(atomic(inner.synthetic)))
        own = outer / ".synthetic.h5.wasalive.tmp"
        own.touch()
        process = CONTEXT.Process(target=sweep_results, args=(str(tmp_path),))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert all(path.exists() for path in unfinished)
        assert not own.exists()


def sweep_results(folder: str) -> None:
    """Begin to work in the outer results folder, as a stage does."""
    with Run(settings_in(Path(folder))).working("distill", "0" * 16):
        pass


CLONE_NEWPID = 0x20000000


def in_namespace(folder: str, name: str, seed: int, wait: str) -> None:
    """`distil` as the first process of a PID namespace, as in a container; it begins when the file `wait` is there."""
    assert ctypes.CDLL(None).unshare(CLONE_NEWPID) == 0
    first = os.fork()
    if first:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
    assert os.getpid() == 1
    Path(f"{wait}-{name}").touch()
    while not Path(wait).exists():
        time.sleep(0.01)
    distil(folder, name, seed)


def test_two_pid_namespaces_write_in_one_volume(tmp_path: Path) -> None:
    probe = ["unshare", "--pid", "--fork", "--kill-child", "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("may not make PID namespaces here")
    alone, wait = tmp_path / "alone", tmp_path / "go"
    distil(str(alone), "one", 1)
    names = ("one", "two")
    processes = [CONTEXT.Process(target=in_namespace, args=(str(tmp_path), name, 1, str(wait))) for name in names]
    for name, process in zip(names, processes, strict=True):
        process.start()
        wait_until(Path(f"{wait}-{name}").exists, process)
    wait.touch()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    expected = results_of(alone / "one")
    assert results_of(tmp_path / "one") == expected
    assert results_of(tmp_path / "two") == expected
    assert not list(tmp_path.rglob(".*.tmp"))


def results_of(folder: Path) -> dict[str, bytes]:
    """The files of a results folder, by name and bytes; not the history, which holds times."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(("history", ".lock")))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_two_runs_never_write_into_one_results_folder(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path))
    begun, until = tmp_path / "begun", tmp_path / "until"
    other = CONTEXT.Process(target=hold, args=(str(run.settings.runtime.artifacts), str(begun), str(until)))
    other.start()
    while not begun.exists():
        time.sleep(0.01)
    for stage in (pipeline.prepare, pipeline.buffer, pipeline.distill, pipeline.evaluate):
        with pytest.raises(UserError, match=r"another attcli works in .*artifacts; wait for it or stop it first"):
            stage(run)
    until.touch()
    other.join()
    assert not list(run.settings.runtime.artifacts.glob("*.h5"))
    pipeline.distill(run)


def test_a_time_limit_that_ends_while_another_one_works_is_told_as_one(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path), time_limit=0.0)
    folder, begun, until = run.work("distill", "0" * 16), tmp_path / "begun", tmp_path / "until"
    other = CONTEXT.Process(target=hold, args=(str(folder), str(begun), str(until)))
    other.start()
    wait_until(begun.exists, other)
    with pytest.raises(OutOfTimeError, match="another attcli"), run.working_at(folder, "distill"):
        pass
    until.touch()
    other.join()


def test_runs_that_share_experts_wait_for_each_other(tmp_path: Path) -> None:
    processes = [CONTEXT.Process(target=distil, args=(str(tmp_path), f"seed{i}", i)) for i in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    seeds = [synthetic.read(tmp_path / f"seed{i}" / "synthetic.h5").about["seed"] for i in (1, 2)]
    assert seeds == [1, 2]
    assert len(list((tmp_path / ".attcli").glob("buffer-*"))) == 1
