"""Processes that meet: none mixes its results with another's, and none dies of sharing what is finished."""

import multiprocessing
import time
from pathlib import Path

import pytest

from attcli import progress
from attcli.errors import UserError
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import synthetic
from tests.conftest import settings_in
from tests.store.held import hold

CONTEXT = multiprocessing.get_context("spawn")


def distil(folder: str, name: str, seed: int) -> None:
    """A distillation in a process of its own; its results are in a folder of that name, the work is shared."""
    import torch

    torch.set_num_threads(1)
    progress.configure("quiet")
    where = {"runtime__artifacts": f"{folder}/{name}", "runtime__work_dir": f"{folder}/.attcli"}
    pipeline.distill(Run(settings_in(Path(folder), distill__seed=seed, **where)))


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
