"""Other processes in the same folder or volume, clocks that jump, and a GPU whose memory is full."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from attcli.store import synthetic
from tests.faults.campaign.ground import SETS, STAGES, Ground, Job, assert_whole, flags, leftovers
from tests.faults.campaign.process import Ended, Running, Trouble, clean, run
from tests.faults.campaign.tally import Tally


def two(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """Two processes in one folder: with the same command, or with one that has other settings."""
    for job in STAGES:
        ground.state(job.name)
        draws = np.random.default_rng([seed, 8])
        same, other = (Tally(f"two processes, {which}", job.name, seed) for which in ("one command", "other settings"))
        for _ in range(trials):
            delay = float(draws.uniform(0, 0.8)) * ground.measured[job.name][0]
            same.trial(f"{delay:.3f} s apart", _same, ground, job, delay)
            other.trial(f"{delay:.3f} s apart", _other, ground, job, delay)
        yield same
        yield other


def _apart(ground: Ground, folder: Path, first: list[str], second: list[str], delay: float, units: Path) -> list[Ended]:
    begun = Running(first, folder, ground.log(), Trouble(units=units))
    time.sleep(delay)
    following = Running(second, folder, ground.log(), Trouble(units=units))
    return [clean(begun.end()), clean(following.end())]


def _same(ground: Ground, job: Job, delay: float) -> str:
    folder, units = ground.fresh(job.before), ground.log()
    units.parent.mkdir(exist_ok=True)
    ended = _apart(ground, folder, job.words, job.words, delay, units)
    assert [each.code for each in ended] == [0, 0], ended[1].complained[-1500:] + ended[0].complained[-1500:]
    assert_whole(folder)
    ground.compare(job, folder)
    done, once = units.read_text(), ground.measured[job.name][2]
    assert len(done) == len(once), f"{len(done)} units of work instead of {len(once)}"
    ground.drop(folder)
    return "both ended well, the work was done once"


def _other(ground: Ground, job: Job, delay: float) -> str:
    folder, units = ground.fresh(job.before), ground.log()
    units.parent.mkdir(exist_ok=True)
    section = "evaluate" if job.name == "evaluate" else job.name
    other = [job.name, "--no-auto", *flags({**SETS, f"{section}.seed": 5})]
    first, second = _apart(ground, folder, job.words, other, delay, units)
    assert_whole(folder)
    codes = (first.code, second.code)
    if job.name == "evaluate" and codes == (0, 0):  # one after the other: scores of the same set, by another seed
        ground.drop(folder)
        return "one after the other"
    assert sorted(codes) == [0, 2], f"exit codes {codes}: {first.complained[-700:]} {second.complained[-700:]}"
    if first.code == 0:
        ground.compare(job, folder)
    ground.drop(folder)
    return "the second one was refused" if first.code == 0 else "the first one was refused"


UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def namespaces(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """Two PID namespaces, as two containers have them, on one volume; in every second trial one of them is killed."""
    job, draws = ground.jobs["distill"], np.random.default_rng([seed, 9])
    ground.state(job.name)
    tally = Tally("two PID namespaces on one volume", job.name, seed)
    for number in range(trials):
        delay, kill = float(draws.uniform(0, 1.0)), float(draws.uniform(2, 8)) if number % 2 else None
        tally.trial(f"{delay:.2f} s apart, killed at {kill}", _namespaces, ground, job, delay, kill)
    yield tally


def _namespaces(ground: Ground, job: Job, delay: float, kill: float | None) -> str:
    folder = ground.fresh(job.before)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    words = [*UNSHARE, sys.executable, "-m", "attcli", *job.words]
    processes = []
    for _ in range(2):
        processes.append(
            subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        )
        time.sleep(delay)
    if kill is not None:
        time.sleep(kill)
        processes[0].kill()
    complained = [process.communicate(timeout=300)[1].decode() for process in processes]
    codes = [process.returncode for process in processes]
    assert "Traceback" not in "".join(complained), complained
    assert codes[1] == 0, f"exit codes {codes}: {complained[1][-1500:]}"
    assert kill is not None or codes[0] == 0, f"exit codes {codes}: {complained[0][-1500:]}"
    ground.compare(job, folder)
    assert not leftovers(folder), f"left: {leftovers(folder)}"
    ground.drop(folder)
    return "one killed, the other ended well" if codes[0] else "both ended well"


def clocks(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """A clock that jumps at every look, and files of 1970 and 2100."""
    for job, share in ground.shared(trials):
        ground.state(job.name)
        tally = Tally("a clock that jumps between 1970 and 2100", job.name, seed)
        for number in range(share):
            tally.trial(number, _jumping, ground, job, seed + number)
        yield tally
        tally, draws = Tally("files of 1970 and 2100", job.name, seed), np.random.default_rng([seed, 10])
        for number in range(share):
            tally.trial(number, _old_files, ground, job, draws)
        yield tally


def _jumping(ground: Ground, job: Job, seed: int) -> str:
    folder = ground.fresh(job.before)
    ground.again(job, folder, Trouble(clock=seed))
    ground.drop(folder)
    return "the same bytes"


def _old_files(ground: Ground, job: Job, draws: np.random.Generator) -> str:
    folder, units = ground.fresh(job.before), ground.log()
    _date(folder, draws)
    ground.again(job, folder)
    _date(folder, draws)
    units.parent.mkdir(exist_ok=True)
    ended = clean(run(job.words, folder, ground.log(), Trouble(units=units)))
    assert ended.code == 0 or job.by_force, ended.complained[-1500:]
    assert units.read_text() == "", f"done again: {units.read_text()}"
    ground.compare(job, folder)
    ground.drop(folder)
    return "the same bytes, nothing done again"


def _date(folder: Path, draws: np.random.Generator) -> None:
    """Give every file and folder one of the two dates."""
    for path in folder.rglob("*"):
        when = (86_400, 4_102_444_800)[int(draws.integers(2))]
        os.utime(path, (when, when))


def memory(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """A GPU whose memory holds so few images of a step, which a student on the CPU stands for."""
    draws = np.random.default_rng([seed, 11])
    for name in ("buffer", "distill", "evaluate"):
        job = ground.jobs[name]
        tally = Tally("memory for a few images, or none", name, seed)
        for room in [0, *draws.integers(1, 10, max(1, trials - 1)).tolist()]:
            tally.trial(f"room for {room} images", _crowded, ground, job, room)
        yield tally


def _crowded(ground: Ground, job: Job, room: int) -> str:
    wanted = ground.state(job.name)
    folder = ground.fresh(job.before)
    ended = clean(run(job.words, folder, ground.log(), Trouble(room=room)))
    halved = [line for line in ended.warnings if "has too little memory for" in line]
    assert halved, ended.complained[-1500:]
    assert all("runtime.micro_batch=" in line for line in halved)
    assert_whole(folder)
    if room == 0:
        assert ended.code == 2, f"exit code {ended.code}"
        assert "too little memory for one image" in ended.lines[0], ended.lines[0]
        ground.again(job, folder)
        ground.drop(folder)
        return "one line, exit code 2; later the same bytes"
    assert ended.code == 0, ended.complained[-1500:]
    if job.name == "distill":
        found, whole = (synthetic.read(part / "artifacts" / "synthetic.h5").variants for part in (folder, wanted))
        assert all(bool(((found[name] - whole[name]).abs() < 1e-3).all()) for name in whole), "another result"
    ground.drop(folder)
    return "went on with fewer images at a time"
