"""Processes that read images: their results are those of this process, and they never outlive it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from attcli import runtime
from attcli.data import readers
from attcli.data.image import ImageFile, decode_each, look_at_each
from tests.data.pictures import picture


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ImageFile]]:
    """Paths and bytes of images, one of them damaged; two readers are begun for them."""
    monkeypatch.setattr(readers, "WORTHWHILE", 1)
    monkeypatch.setattr(readers, "PIECE", 3)
    monkeypatch.setattr(runtime, "cores", lambda: 2)
    files: list[ImageFile] = [picture(tmp_path / f"{i}.png", seed=i, size=(9, 7)) for i in range(9)]
    files[4] = b"not an image"
    files[7] = (tmp_path / "7.png").read_bytes()
    yield files
    readers.end()


def test_results_come_in_order_and_are_those_of_this_process(files: list[ImageFile]) -> None:
    pieces = list(readers.each_piece(decode_each, files, 3, 8, "squeeze"))
    images, problems, animated = decode_each(files, 3, 8, "squeeze")
    assert np.array_equal(np.concatenate([piece[0] for piece in pieces]), images)
    assert [piece[1] for piece in pieces] == [{}, {1: "it is no image"}, {}]
    assert (problems, animated) == ({4: "it is no image"}, 0)
    looks = [look for piece in readers.each_piece(look_at_each, files) for look in piece]
    assert looks == look_at_each(files)
    assert looks[4][1:] == (None, None)


def test_few_files_begin_no_readers(files: list[ImageFile], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "WORTHWHILE", len(files) + 1)
    assert len(list(readers.each_piece(look_at_each, files))) == 3
    assert not readers._kept


def test_what_a_dead_reader_leaves_is_done_here(files: list[ImageFile]) -> None:
    expected = list(readers.each_piece(look_at_each, files))
    (kept,) = readers._kept
    for reader in kept._begun:
        reader._process.kill()
        reader._process.wait()
    assert list(readers.each_piece(look_at_each, files)) == expected


def test_readers_that_cannot_be_begun_are_not_needed(files: list[ImageFile], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", no_process)
    assert [look for piece in readers.each_piece(look_at_each, files) for look in piece] == look_at_each(files)


def _gone(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_readers_end_with_a_process_that_is_killed(files: list[ImageFile]) -> None:
    script = f"""
from attcli import runtime
from attcli.data import readers
from attcli.data.image import look_at_each
readers.WORTHWHILE, readers.PIECE, runtime.cores = 1, 1, lambda: 2
files = {[str(file) for file in files if isinstance(file, Path)]!r} * 20
list(readers.each_piece(look_at_each, files))
print(*[reader._process.pid for reader in readers._kept[0]._begun], flush=True)
import time
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        numbers = [int(number) for number in process.stdout.readline().split()]
        assert numbers
        assert not any(_gone(number) for number in numbers)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 30
    while not all(_gone(number) for number in numbers):
        assert time.monotonic() < deadline, "a reader goes on"
        time.sleep(0.05)


def test_threads_that_ask_at_once_share_the_readers(files: list[ImageFile]) -> None:
    begin = Barrier(8)

    def asked(_: int) -> list[object]:
        begin.wait()
        return list(readers.each_piece(look_at_each, files))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(asked, range(8)))
    assert all(result == results[0] for result in results)
    assert len(readers._kept) == 1
