"""A command of attcli in a process of its own, in which something may go wrong."""

import ctypes
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.faulty import Deadly, Disk, room_for, through
from tests.processes import CONTEXT

SECONDS = 300
"""A command that takes longer hangs."""


@dataclass(frozen=True)
class Trouble:
    """What goes wrong in a process.

    die_at: the call of the disk at which it is killed; fail_at, number: the one from which calls fail, with that error
    of the system, all or that one `once`. clock: a seed; the clock jumps at every look. units: the file in which each
    unit of work leaves a letter. calls: the file that is told how many calls of the disk there were.
    room: a student's steps fail, as a GPU whose memory is full, on more images than that.
    powerless: without root's right to write to what is another user's.
    """

    die_at: int = 0
    fail_at: int = 0
    number: int = 0
    once: bool = False
    clock: int | None = None
    units: Path | None = None
    calls: Path | None = None
    room: int | None = None
    powerless: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative for the signal that killed it), stdout, stderr and seconds."""

    code: int
    said: str
    complained: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """The lines in which attcli itself says why it ended."""
        return [line for line in self.complained.splitlines() if line.startswith("attcli:")]

    @property
    def warnings(self) -> list[str]:
        """The warnings in the log."""
        return [line for line in self.complained.splitlines() if " WARNING " in line]


REMEDY = re.compile(r"; |run `|choose |name |delete it|get it again|mend |set |wait for")
"""What a message has that says what to do."""


def clean(ended: Ended) -> Ended:
    """The same; AssertionError where a command ended otherwise than by a success or one line with a remedy."""
    told = ended.complained[-2000:]
    assert "Traceback" not in ended.complained, f"a traceback: {told}"
    assert ended.code in (0, 2, 75, 130), f"exit code {ended.code}: {told}"
    if ended.code == 2:
        assert len(ended.lines) == 1, f"{len(ended.lines)} lines: {told}"
        assert REMEDY.search(ended.lines[0]), f"no remedy: {told}"
        assert len(ended.lines[0]) < 1200, f"a long line: {told}"
    return ended


class Running:
    """A command that goes on in `folder`; `end()` waits for it."""

    def __init__(self, words: list[str], folder: Path, log: Path, trouble: Trouble = Trouble()) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.process = CONTEXT.Process(target=act, args=(words, folder, log, trouble))
        self.begun = time.monotonic()
        self.process.start()

    def end(self, seconds: float = SECONDS) -> Ended:
        """How it ended. AssertionError, and it is killed, where it does not end in time."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"it hangs: {self._read('err')[-2000:]}")
        return Ended(self.process.exitcode, self._read("out"), self._read("err"), time.monotonic() - self.begun)

    def _read(self, kind: str) -> str:
        file = self.log.with_suffix(f".{kind}")
        return file.read_text(errors="replace") if file.exists() else ""

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait until something happened, or the command has ended."""
        while self.process.is_alive() and not happened():
            time.sleep(0.002)


def run(words: list[str], folder: Path, log: Path, trouble: Trouble = Trouble()) -> Ended:
    """Run a command to its end."""
    return Running(words, folder, log, trouble).end()


def act(words: list[str], folder: Path, log: Path, trouble: Trouble) -> None:
    """The process: the console script itself, with its streams in files."""
    for number, kind in ((1, "out"), (2, "err")):
        handle = os.open(log.with_suffix(f".{kind}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(handle, number)
        os.close(handle)
    import torch

    from attcli.cli import main

    os.environ.pop("container", None)  # where each command would measure for a second how long it will take
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.argv = ["attcli", *words]
    with ExitStack() as stack:
        if trouble.units is not None:
            _count_units(trouble.units)
        if trouble.clock is not None:
            _jumping_clock(trouble.clock)
        if trouble.room is not None:
            stack.enter_context(room_for(trouble.room))
        if trouble.powerless:
            drop_power()
        if trouble.die_at or trouble.fail_at or trouble.calls:
            stack.enter_context(_troubled(folder, trouble))
        main()


@contextmanager
def _troubled(folder: Path, trouble: Trouble) -> Iterator[None]:
    """What a process does below its folder goes through a disk that fails, kills or counts."""
    disk = Deadly(str(folder), trouble.die_at)
    if not trouble.die_at:
        disk = Disk(str(folder), trouble.fail_at, trouble.number, trouble.once)
        disk.names = Disk.names if trouble.fail_at else Deadly.names
    with through(disk):
        try:
            yield
        finally:
            if trouble.calls is not None:
                handle = os.open(trouble.calls, os.O_WRONLY | os.O_CREAT)
                os.write(handle, str(disk.calls).encode())


def units() -> dict[str, tuple[Any, str]]:
    """The units of work, by the letter that each leaves: an epoch, an iteration, a scored network, a dataset."""
    from attcli.scoring import scorer
    from attcli.stages import distill, expert_training, prepare

    return {
        "e": (expert_training, "train_epoch"),
        "i": (distill.Loop, "iterate"),
        "n": (scorer.Scorer, "_score"),
        "p": (prepare, "_make"),
    }


def _count_units(file: Path) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for letter, (owner, name) in units().items():
        real = getattr(owner, name)

        def counted(*inputs: Any, letter: str = letter, real: Any = real, **options: Any) -> Any:
            os.write(handle, letter.encode())
            return real(*inputs, **options)

        setattr(owner, name, counted)


def _jumping_clock(seed: int) -> None:
    """time.time() is anywhere between 1970 and 2100, another moment at every look."""
    draws = random.Random(seed)
    time.time = lambda: draws.uniform(0.0, 4.1e9)


def drop_power() -> None:
    """Give up all that root may do, by the system call capset; this process may still read what is root's own."""
    version, empty = 0x20080522, (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset((ctypes.c_uint32 * 2)(version, 0), empty):
        raise OSError(ctypes.get_errno(), "capset")
