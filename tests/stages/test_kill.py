"""A stage killed at any moment and started again ends with the same bytes as one that was left alone."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attcli import progress, runtime
from attcli.stages import buffer, distill, evaluate, prepare
from attcli.stages.run import Run
from tests.conftest import settings_in
from tests.processes import CONTEXT
from tests.stages.observed import contents

CHANGES: dict[str, object] = {
    "distill__iterations": 20,
    "distill__save_every": 3,
    "evaluate__epochs": 30,
    "buffer__experts": 4,
    "buffer__epochs": 6,
}
STAGES = {"prepare": prepare.run, "buffer": buffer.run, "distill": distill.run, "evaluate": evaluate.run}


def work(folder: Path, stage: str) -> None:
    """One stage in a process of its own."""
    runtime.configure(1, deterministic=True)
    progress.configure("quiet")
    STAGES[stage](Run(settings_in(folder, **CHANGES), auto=False))


def begin(folder: Path, stage: str) -> multiprocessing.Process:
    process = CONTEXT.Process(target=work, args=(folder, stage))
    process.start()
    return process


def whole(folder: Path, stages: list[str]) -> None:
    for stage in stages:
        process = begin(folder, stage)
        process.join()
        assert process.exitcode == 0


def size(folder: Path) -> int:
    """A number that grows with whatever is written."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size + 1
        except FileNotFoundError:  # renamed meanwhile
            continue
    return total


def disturbed(folder: Path, stage: str, kills: int) -> int:
    """Run a stage, killing it each time a little after it has written something new; returns how often it was."""
    done = 0
    while True:
        before, process = size(folder), begin(folder, stage)
        while process.is_alive() and (done >= kills or size(folder) == before):
            time.sleep(0.002)
        if not process.is_alive():
            process.join()
            assert process.exitcode == 0
            return done
        time.sleep((0.0, 0.013, 0.005, 0.03)[done % 4])
        process.kill()
        process.join()
        done += process.exitcode == -signal.SIGKILL


def test_killed_stages_end_with_the_same_bytes(tmp_path: Path) -> None:
    stages = list(STAGES)
    whole(tmp_path / "whole", stages)
    kills = {stage: disturbed(tmp_path / "killed", stage, kills=3) for stage in stages}
    assert min(kills[stage] for stage in ("buffer", "distill", "evaluate")) >= 2
    wanted, found = (contents(Run(settings_in(tmp_path / name, **CHANGES))) for name in ("whole", "killed"))
    assert wanted.keys() == found.keys()
    assert [name for name in wanted if wanted[name] != found[name]] == []


@pytest.mark.parametrize("stage", ["buffer", "distill"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stage_asked_to_stop_saves_what_it_has(
    tmp_path: Path, stage: str, number: signal.Signals, make_run: Callable[..., Run]
) -> None:
    before = list(STAGES)[: list(STAGES).index(stage)]
    whole(tmp_path, before)
    process = CONTEXT.Process(target=interrupted, args=(tmp_path, stage))
    process.start()
    marker = tmp_path / "begun"
    while not marker.exists():
        time.sleep(0.002)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 130
    if stage == "distill":
        assert list((tmp_path / ".attcli").glob("distill-*/latest.h5"))
        assert (tmp_path / "artifacts" / "synthetic.h5").exists()
    else:
        assert list((tmp_path / ".attcli").glob("buffer-*/expert-0000.jsonl"))


def interrupted(folder: Path, stage: str) -> None:
    """A stage that never saves by itself, and tells when it has something to lose."""
    import sys

    import torch

    from attcli.runtime import stoppable

    torch.set_num_threads(1)
    progress.configure("quiet")
    changes = {**CHANGES, "distill__iterations": 10_000, "distill__save_every": 10_000, "buffer__epochs": 10_000}
    changes |= {"buffer__experts": 1} if stage == "buffer" else {"buffer__epochs": 6}
    told = progress.Track.advance

    def advance(self: progress.Track, note: str = "") -> None:
        told(self, note)
        (folder / "begun").touch()

    progress.Track.advance = advance
    try:
        with stoppable():
            STAGES[stage](Run(settings_in(folder, **changes), auto=False))
    except KeyboardInterrupt:
        sys.exit(130)
