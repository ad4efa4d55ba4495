"""The jobs that rank 0 hands out, and what the other ranks do with them.

Rank 0 runs the command. Where a stage has work that can be shared, it hands out a job, and all ranks do their share of
it: each stage's module has a function `share` for the others. A job is told, and its end, by what the ranks post, so
that they hear signals while they wait. Numbers are exchanged *in step* only while distilling.
"""

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from loguru import logger

from attcli import progress, ranks, runtime
from attcli.errors import DivergedError, OutOfTimeError, UserError
from attcli.ranks import LostError, Ranks
from attcli.scoring.training import StoppedError
from attcli.settings import Settings
from attcli.signals import SIGNALS
from attcli.stages import failures
from attcli.stages.run import Run
from attcli.workers import END_SECONDS, started

DISK_SECONDS = 10
"""How long rank 0 looks for a file that another machine has written: some shared disks show it late."""


@dataclass
class Job:
    """A job under way, as a rank sees it.

    in_step: the ranks exchange numbers at present, so that none can go on where another one fails. kept: what a stage's
    `share` may keep from one job of the command to the next.
    """

    ranks: Ranks
    number: int
    in_step: bool = False
    kept: dict[str, Any] = field(default_factory=dict)

    def begin_in_step(self) -> None:
        """From here on the ranks exchange numbers: each says that it is ready, or rank 0 hears why it is not.

        UserError, on rank 0, where one is not.
        """
        if self.ranks.several and self.ranks.lead:
            for rank in range(1, self.ranks.size):
                told = self.ranks.awaited(f"ready-{self.number}-{rank}", f"done-{self.number}-{rank}")
                if told != READY:
                    raise _failure_of(told, rank, self.ranks)
            self.ranks.post(f"go-{self.number}", True)
        elif self.ranks.several:
            self.ranks.post(f"ready-{self.number}-{self.ranks.rank}", READY)
            if not self.ranks.awaited(f"go-{self.number}"):
                raise StoppedError
        self.in_step = True


READY = "ready"


@contextmanager
def shared(run: Run, stage: str, **details: Any) -> Iterator[Job]:
    """The other ranks do their share while rank 0 does its own in here; on leaving, all of them are done.

    details: what JSON can say of the job; each stage's `share` takes them. UserError where one of the others had an
    error. Where rank 0 has one, the others stop.
    """
    among = run.ranks
    if not among.several:
        yield Job(among, 0)
        return
    job = Job(among, next(among.numbers))
    among.post(f"job-{job.number}", {"stage": stage, "details": details, **_of_run(run)})
    try:
        yield job
    except LostError:
        among.lost = True
        raise
    except BaseException as error:
        if job.in_step:
            among.lost = True
            raise
        among.ask_to_stop()
        among.post(f"go-{job.number}", False)
        others = [failure for failure in _told(among, job.number) if failure != error]
        if others and isinstance(error, KeyboardInterrupt | StoppedError | OutOfTimeError):
            raise others[0] from None  # the reason why all had to stop
        for failure in others:
            logger.error("{}", failure)
        raise
    job.in_step = False
    for failure in _told(among, job.number):
        raise failure


def _of_run(run: Run) -> dict[str, Any]:
    """What the others have to know of rank 0's run."""
    return {
        "settings": run.settings.model_dump(mode="json"),
        "seconds": None if run.time_limit is None else run.time_limit - (time.monotonic() - run.begun),
        "origin": dict(run.origin),
        "params": None if run.params is None else str(run.params),
    }


def _told(among: Ranks, number: int) -> list[UserError]:
    """What went wrong in a job on the other ranks; waits until all have done with it."""
    told = [(rank, among.awaited(f"done-{number}-{rank}")) for rank in range(1, among.size)]
    for _, done in told:
        among.spent += done["cpu_s"]
    return [_failure_of(done, rank, among) for rank, done in told if done["failure"]]


def _failure_of(done: Any, rank: int, among: Ranks) -> UserError:
    return UserError(f"{done['failure']} (process {rank} of {among.size})")


def end(among: Ranks, code: int) -> None:
    """Let the other ranks end, with the command's exit code, and wait until they have heard it.

    Where some are lost, all end by themselves.
    """
    if not among.several or among.lost:
        return
    with suppress(LostError):
        among.post(f"job-{next(among.numbers)}", {"end": code})
        for rank in range(1, among.size):
            among.awaited(f"left-{rank}", seconds=END_SECONDS)


@contextmanager
def workers(count: int) -> Iterator[Ranks]:
    """As many processes on this machine, of which this one is rank 0. Among ranks, nothing is started."""
    outer = ranks.current()
    with started(count) as joined:
        try:
            yield joined
        finally:
            if joined is not outer:
                end(joined, 0)


def serve(me: Ranks) -> int:
    """Do the jobs that rank 0 hands out until it ends; the command's exit code.

    Signals are left to rank 0, which gets them too; a job that is under way passes them on to it.
    """
    for signalled in SIGNALS:
        signal.signal(signalled, signal.SIG_IGN)
    progress.mute()
    kept: dict[str, Any] = {}
    for number in itertools.count():
        order = me.awaited(f"job-{number}")
        if "end" in order:
            break
        begun = time.process_time()
        failure = _done(order, Job(me, number, kept=kept))
        done = {"failure": failure, "cpu_s": time.process_time() - begun}
        me.post(f"done-{number}-{me.rank}", done)
    me.post(f"left-{me.rank}", True)
    return int(order["end"])


def _done(order: dict[str, Any], job: Job) -> str | None:
    """Do a rank's share of a job; what went wrong, if anything did.

    Where something goes wrong in step, this process ends, so that the others notice. LostError without a word where
    they all find the same. A full disk or memory is told as rank 0 would tell its own.
    """
    settings = Settings.model_validate(order["settings"])
    params = None if order["params"] is None else Path(order["params"])
    run = Run(settings, time_limit=order["seconds"], ranks=job.ranks, origin=order["origin"], params=params)
    runtime.configure(settings.runtime.threads, settings.runtime.deterministic)
    try:
        import_module(f"attcli.stages.{order['stage']}").share(run, job, **order["details"])
    except LostError:
        raise
    except DivergedError as error:
        if job.in_step:
            raise LostError(str(error)) from None
        return _stopping_all(job, error)
    except UserError as error:
        if job.in_step:
            raise
        return _stopping_all(job, error)
    except (OSError, RuntimeError, MemoryError) as error:
        failure = failures.of_the_machine(error, run, order["stage"])
        if failure is None:
            raise
        if job.in_step:
            raise failure from None
        return _stopping_all(job, failure)
    except (KeyboardInterrupt, OutOfTimeError, StoppedError):
        if job.in_step:
            raise LostError("a signal came twice") from None
        return None
    return None


def _stopping_all(job: Job, error: UserError) -> str:
    """What went wrong, after the others were asked to stop: the work can't be finished."""
    job.ranks.ask_to_stop()
    return str(error)


def appears(path: Path) -> bool:
    """Whether a file exists that another rank may just have written, perhaps on another machine."""

    def exists() -> bool:
        with suppress(OSError):
            list(path.parent.iterdir())  # lets the system look at the disk anew
        return path.exists()

    return seen(exists)


def seen(is_there: Callable[[], bool]) -> bool:
    """Whether what another rank has just written is there; some shared disks show it late."""
    until = time.monotonic() + (DISK_SECONDS if ranks.current().several else 0)
    while not is_there():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def alone(settings: Settings) -> Settings:
    """The settings without other processes, for work that can't be shared."""
    return settings.model_copy(update={"runtime": settings.runtime.model_copy(update={"workers": 1})})
