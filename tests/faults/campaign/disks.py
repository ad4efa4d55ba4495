"""Disks that are full, that fail, or that may not be written to."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.faults.campaign.ground import Ground, Job, assert_whole, copy, poured
from tests.faults.campaign.process import Ended, Trouble, clean, run
from tests.faults.campaign.tally import Tally

FAULTS = {
    "disk full from a write on": (errno.ENOSPC, False),
    "quota used up from a write on": (errno.EDQUOT, False),
    "disk that fails from a write on": (errno.EIO, False),
    "disk that fails at one write": (errno.EIO, True),
    "disk that becomes read-only": (errno.EROFS, False),
}
PAGE = 4096
BALLAST = "ballast"


def failing(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """Any write, sync, rename, link or new folder of a command may be the one from which the disk fails.

    A quarter of the trials of a full disk is enough for the other errors, which go the same way.
    """
    for job, share in ground.shared(trials):
        ground.state(job.name)
        counted, folder = ground.log(), ground.fresh(job.before)
        counted.parent.mkdir(exist_ok=True)
        clean(run(job.words, folder, ground.log(), Trouble(fail_at=10**9, calls=counted)))
        ground.drop(folder)
        calls = int(counted.read_text())
        for fault, (number, once) in FAULTS.items():
            tally = Tally(fault, job.name, seed)
            places = (
                np.random.default_rng([seed, 3, number]).permutation(calls)[
                    : share if number == errno.ENOSPC else -(-share // 4)
                ]
                + 1
            )
            for place in map(int, places):
                trouble = Trouble(fail_at=place, number=number, once=once)
                tally.trial(f"call {place} of {calls}", _failed, ground, job, trouble)
            yield tally


def _failed(ground: Ground, job: Job, trouble: Trouble) -> str:
    folder = ground.fresh(job.before)
    ended = clean(run(job.words, folder, ground.log(), trouble))
    assert ended.code == 2 or (trouble.once and not ended.code), f"exit code {ended.code}: {ended.complained[-1500:]}"
    if ended.code:
        assert os.strerror(trouble.number) in ended.lines[0], ended.lines[0]
    assert_whole(folder)
    ground.again(job, folder)
    ground.drop(folder)
    return _ending(ended)


def _ending(ended: Ended) -> str:
    return "one line, exit code 2" if ended.code else "went on"


@contextmanager
def small(folder: Path, size: str) -> Iterator[None]:
    """Meanwhile the folder is a file system of its own, of that size."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remounted(folder: Path, how: str) -> None:
    """Change how the file system at a folder is mounted."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def full(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """A small file system that has room for so much of what a command writes, and no more."""
    for job, share in ground.shared(trials):
        need = _size(ground.state(job.name)) - _size(ground.state(job.before)) + 8 * PAGE
        tally, draws = Tally("a small file system fills up", job.name, seed), np.random.default_rng([seed, 4])
        for pages in draws.integers(0, need // PAGE + 1, share).tolist():
            tally.trial(f"room for {pages} pages", _filled, ground, job, pages)
        yield tally


def _size(folder: Path) -> int:
    """The bytes of all files, each in whole pages and counted once, however many links it has."""
    stats = {(stat := path.stat()).st_ino: stat.st_size for path in folder.rglob("*") if path.is_file()}
    return sum(-(-size // PAGE) * PAGE for size in stats.values())


def _filled(ground: Ground, job: Job, pages: int) -> str:
    folder = ground.root / "small"
    with small(folder, "64m"):
        poured(ground.state(job.before), folder)
        stat = os.statvfs(folder)
        with (folder / BALLAST).open("wb") as ballast:
            ballast.write(bytes(max(0, stat.f_bavail * stat.f_frsize - pages * PAGE)))
        ended = clean(run(job.words, folder, ground.log()))
        assert ended.code in (0, 2), f"exit code {ended.code}"
        if ended.code:
            assert "No space left on device" in ended.lines[0], ended.lines[0]
        assert_whole(folder)
        (folder / BALLAST).unlink()
        ground.again(job, folder)
    return "one line, exit code 2" if ended.code else "had room enough"


def read_only(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """Folders that may not be written to: on a read-only file system, or another user's."""
    for job in ground.jobs.values():
        ground.state(job.name)
        tally = Tally("read-only folders", job.name, seed)
        tally.trial("a read-only file system", _read_only, ground, job)
        for part in (".attcli", "artifacts"):
            if part == "artifacts" or not job.writes_apart:
                tally.trial(f"{part} alone", _read_only_part, ground, job, part)
        tally.trial("another user's folder", _of_another_user, ground, job)
        yield tally


def _read_only(ground: Ground, job: Job) -> str:
    folder = ground.root / "small"
    with small(folder, "64m"):
        poured(ground.state(job.before), folder)
        remounted(folder, "ro")
        ended = clean(run(job.words, folder, ground.log()))
        assert ended.code == 2, f"exit code {ended.code}: {ended.complained[-1500:]}"
        remounted(folder, "rw")
        ground.again(job, folder)
    return "one line, exit code 2"


def _read_only_part(ground: Ground, job: Job, part: str) -> str:
    folder = ground.fresh(job.before)
    place, held = folder / part, ground.log()
    place.mkdir(exist_ok=True)
    copy(place, held)
    with small(place, "64m"):
        poured(held, place)
        remounted(place, "ro")
        ended = clean(run(job.words, folder, ground.log()))
        assert ended.code == (0 if job.writes_apart else 2), f"exit code {ended.code}: {ended.complained[-1500:]}"
    if ended.code:
        ground.again(job, folder)
    ground.drop(folder)
    return "one line, exit code 2" if ended.code else "is not written to"


def _of_another_user(ground: Ground, job: Job) -> str:
    folder = ground.fresh(job.before)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    ended = clean(run(job.words, folder, ground.log(), Trouble(powerless=True)))
    assert ended.code == 2, f"exit code {ended.code}: {ended.complained[-1500:]}"
    ground.again(job, folder)
    ground.drop(folder)
    return "one line, exit code 2"
