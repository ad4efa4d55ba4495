"""Processes that are killed, or asked to stop again and again."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from tests.faults.campaign.ground import FORMS, Ground, Job, assert_whole, leftovers
from tests.faults.campaign.process import Running, Trouble, clean, run
from tests.faults.campaign.tally import Tally

EXITS = {signal.SIGUSR1: (75,), signal.SIGTERM: (75,), signal.SIGINT: (130,)}
"""The exit codes of a command that a signal stopped."""

KILLED = -signal.SIGKILL


def kills(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """SIGKILL in every command: in a call of the disk, where a write is torn, or at a moment, by turns."""
    for job, share in ground.shared(trials):
        yield killed(ground, job, seed, share)


def killed(ground: Ground, job: Job, seed: int, trials: int) -> Tally:
    """A command that is killed once, at so many points."""
    ground.state(job.name)
    seconds, calls, _ = ground.measured[job.name]
    tally, draws = Tally("killed (SIGKILL)", job.name, seed), np.random.default_rng([seed, 1])
    for number in range(trials):
        place, moment = int(draws.integers(1, calls + 1)), float(draws.uniform(0.02, 1.0)) * seconds
        at = Trouble(die_at=place) if number % 2 == 0 else None
        tally.trial(f"place {place}, {moment:.3f} s", _killed, ground, job, at, moment)
    return tally


def _killed(ground: Ground, job: Job, at: Trouble | None, moment: float) -> str:
    folder, units = ground.fresh(job.before), ground.log()
    units.parent.mkdir(exist_ok=True)
    if at is None:
        running = Running(job.words, folder, ground.log(), Trouble(units=units))
        running.process.join(moment)
        running.process.kill()
        ended = running.end()
    else:
        ended = run(job.words, folder, ground.log(), Trouble(die_at=at.die_at, units=units))
    assert ended.code in (0, KILLED), f"exit code {ended.code}: {ended.complained[-1500:]}"
    assert_whole(folder)
    ground.again(job, folder, Trouble(units=units))
    assert not leftovers(folder), f"left: {leftovers(folder)}"
    _not_again(ground, job, units, stops=ended.code == KILLED)
    ground.drop(folder)
    return "killed" if ended.code else "had ended before"


def _not_again(ground: Ground, job: Job, units: Path, stops: int) -> None:
    """AssertionError where work that was finished was done again: more of it than each stop may lose."""
    done, once = units.read_text(), ground.measured[job.name][2]
    most = len(once) + job.again * stops
    assert len(done) <= most, f"{len(done)} units of work instead of {len(once)} and at most {most - len(once)} again"


def storms(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """Signals that come one after the other, at any moment, until the command has ended; again, until it is done."""
    names = [name for name in ground.jobs if not name.startswith("export") or name == f"export {FORMS[0]}"]
    for number, exits in EXITS.items():
        for name in names:
            job = ground.jobs[name]
            ground.state(name)
            tally = Tally(f"storm of {signal.Signals(number).name}", name, seed)
            draws = np.random.default_rng([seed, 2, number])
            for _ in range(trials):
                state = draws.integers(2**31)
                tally.trial(state, _storm, ground, job, number, exits, state)
            yield tally


def _is_written(log: Path) -> bool:
    return log.exists() and log.stat().st_size > 0


SOON = 0.05
"""A storm begins within this share of a command's time after its first line, so that the command is still at work."""

STORMS = 3
"""Commands that a storm meets before one is left alone."""


def _storm(ground: Ground, job: Job, number: int, exits: tuple[int, ...], seed: int) -> str:
    draws, folder = np.random.default_rng(seed), ground.fresh(job.before)
    stopped = 0
    for _ in range(STORMS):
        running = Running([*job.words, *(["--force"] if job.by_force else [])], folder, ground.log())
        log = running.log.with_suffix(".err")
        running.wait_until(partial(_is_written, log))  # then its handlers are set
        time.sleep(float(draws.uniform(0, SOON)) * ground.measured[job.name][0])
        while running.process.is_alive():
            with suppress(ProcessLookupError):  # it may have ended since
                os.kill(running.process.pid, number)
            time.sleep(float(draws.exponential(0.02)))
        ended = running.end()
        if ended.code != -number:  # of one that had nothing to save yet, which the signal ends at once
            clean(ended)
            assert ended.code in (0, *exits), f"exit code {ended.code}: {ended.complained[-1500:]}"
        stopped += ended.code != 0
        assert_whole(folder)
    ground.again(job, folder)
    ground.drop(folder)
    return f"stopped {stopped} times of {STORMS}"
