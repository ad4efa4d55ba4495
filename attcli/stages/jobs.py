"""The jobs that rank 0 hands out, and what the other ranks do with them.

Rank 0 runs the command. Where a stage has work that can be shared, it hands out a job, and all ranks do their share of
it: each stage's module has a function `share` for the others.
"""

import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from attcli import progress, ranks, runtime
from attcli.errors import OutOfTimeError, UserError
from attcli.ranks import LostError, Ranks
from attcli.scoring.protocol import StoppedError
from attcli.settings import Settings
from attcli.stages.run import Run


@dataclass
class Pace:
    """in_step: the ranks exchange numbers all the time at present, so that none can go on where another one fails."""

    in_step: bool = False


@contextmanager
def shared(run: Run, stage: str, **details: Any) -> Iterator[Pace]:
    """The other ranks do their share while rank 0 does its own in here; on leaving, all of them are done.

    details: what JSON can say of the job; each stage's `share` takes them. UserError where one of the others had an
    error. Where rank 0 has one, the others stop.
    """
    among, pace = run.ranks, Pace()
    if not among.several:
        yield pace
        return
    number = next(among.numbers)
    seconds = None if run.time_limit is None else run.time_limit - (time.monotonic() - run.begun)
    settings = run.settings.model_dump(mode="json")
    among.post(f"job-{number}", {"stage": stage, "settings": settings, "seconds": seconds, "details": details})
    try:
        yield pace
    except LostError:
        among.lost = True
        raise
    except BaseException:
        if pace.in_step:
            among.lost = True
        else:
            among.ask_to_stop()
            _failures(among, number)
        raise
    for rank, failure in _failures(among, number):
        raise UserError(f"{failure} (process {rank} of {among.size})")


def _failures(among: Ranks, number: int) -> list[tuple[int, str]]:
    """What went wrong in a job, by rank; waits until all have done with it."""
    told = [(rank, among.awaited(f"done-{number}-{rank}")) for rank in range(1, among.size)]
    return [(rank, failure) for rank, failure in told if failure]


def end(among: Ranks, code: int) -> None:
    """Let the other ranks end, with the command's exit code. Where some are lost, all end by themselves."""
    if among.several and not among.lost:
        with suppress(LostError):
            among.post(f"job-{next(among.numbers)}", {"end": code})


@contextmanager
def workers(count: int) -> Iterator[Ranks]:
    """As many processes on this machine, of which this one is rank 0. Among ranks, nothing is started."""
    outer = ranks.current()
    with ranks.workers(count) as joined:
        try:
            yield joined
        finally:
            if joined is not outer:
                end(joined, 0)


def serve(me: Ranks) -> int:
    """Do the jobs that rank 0 hands out until it ends; the command's exit code.

    Signals are left to rank 0, which gets them too; a job that is under way passes them on to it.
    """
    for signalled in runtime.SIGNALS:
        signal.signal(signalled, signal.SIG_IGN)
    progress.mute()
    kept: dict[str, Any] = {}
    for number in itertools.count():
        job = me.awaited(f"job-{number}")
        if "end" in job:
            break
        me.post(f"done-{number}-{me.rank}", _done(job, me, kept))
    return int(job["end"])


def _done(job: dict[str, Any], me: Ranks, kept: dict[str, Any]) -> str | None:
    """Do a rank's share of a job; what went wrong, if anything did.

    kept: what a stage's `share` may keep from one job of the command to the next.
    """
    settings = Settings.model_validate(job["settings"])
    device = ranks.device(settings.runtime.device, me)
    run = Run(with_device(settings, device), time_limit=job["seconds"], ranks=me)
    runtime.configure(settings.runtime.threads, settings.runtime.deterministic)
    try:
        import_module(f"attcli.stages.{job['stage']}").share(run, kept, **job["details"])
    except LostError:
        raise
    except UserError as error:
        return str(error)
    except (KeyboardInterrupt, OutOfTimeError, StoppedError):
        return None
    return None


def with_device(settings: Settings, device: str) -> Settings:
    """The settings with another device."""
    return settings.model_copy(update={"runtime": settings.runtime.model_copy(update={"device": device})})
