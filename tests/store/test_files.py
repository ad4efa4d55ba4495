"""Files that are there whole or not at all, and folders that one process at a time works in."""

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import IO

import pytest

from attcli.atomic import atomic, sweep, sweep_killed
from attcli.errors import UserError
from attcli.store.files import link, locked, write_text
from attcli.store.results import Results
from tests.processes import CONTEXT
from tests.store.held import hold


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def fail() -> None:
        with atomic(tmp_path / "a") as temporary:
            temporary.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_file_that_cannot_be_begun_is_named_itself(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)  # a temporary name beside it is longer than names may be
    with pytest.raises(OSError, match="File name too long") as caught, atomic(path):
        pass
    assert caught.value.filename == str(path)


def test_a_link_survives_its_source(tmp_path: Path) -> None:
    write_text(tmp_path / "work" / "a", "x")
    link(tmp_path / "work" / "a", tmp_path / "out" / "a")
    assert os.path.samefile(tmp_path / "work" / "a", tmp_path / "out" / "a")
    (tmp_path / "work" / "a").unlink()
    assert (tmp_path / "out" / "a").read_text() == "x"


def test_one_process_at_a_time_but_it_may_enter_twice(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path):
        pass
    begun, until = tmp_path / "begun", tmp_path / "until"
    other = CONTEXT.Process(target=hold, args=(*map(str, (tmp_path, begun, until)),))
    other.start()
    while not begun.exists():
        time.sleep(0.01)
    with pytest.raises(UserError, match="another attcli works in"), locked(tmp_path):
        pass
    looks = iter([True, True, False])
    with pytest.raises(UserError, match="another attcli works in"), locked(tmp_path, wait=lambda: next(looks)):
        pass
    until.touch()
    with locked(tmp_path, wait=lambda: True):
        pass
    other.join()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(UserError, match="knows no locks; choose a folder on another one"), locked(tmp_path):
        pass


def test_what_dead_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    others = tmp_path / "deep" / ".a.h5.x1y2z3w4.tmp"  # perhaps another process's, which is alive
    for path in (tmp_path / ".a.h5.x1y2z3w4.tmp", others, tmp_path / "a.h5", tmp_path / "b.tmp", tmp_path / ".my.tmp"):
        path.touch()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        ".a.h5.x1y2z3w4.tmp",
        ".my.tmp",
        "a.h5",
        "b.tmp",
        "deep",
    ]
    assert others.exists()
    with atomic(tmp_path / "c.h5") as being_written:  # by what holds no lock on the folder, such as `attcli export`
        being_written.write_text("x")
        sweep(tmp_path)
    assert (tmp_path / "c.h5").read_text() == "x"


def test_what_is_swept_is_locked_as_network_disks_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_on_nfs(file: IO[bytes], how: int) -> None:
        if how & fcntl.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    (tmp_path / ".a.h5.wasalive.tmp").touch()
    sweep_killed(tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_had_begun_is_removed_and_not_what_is_being_written(tmp_path: Path) -> None:
    target, killed, of_another = (tmp_path / name for name in ("a.h5", ".a.h5.wasalive.tmp", ".b.h5.wasalive.tmp"))
    killed.touch()
    of_another.touch()
    with atomic(target) as being_written:
        being_written.write_text("x")
        sweep_killed(target)
        assert being_written.exists()
    assert target.read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == [of_another.name, "a.h5"]


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    did, fsync, replace = [], os.fsync, os.replace

    def synced(handle: int) -> None:
        did.append(Path(os.readlink(f"/proc/self/fd/{handle}")).suffix)
        fsync(handle)

    def renamed(*names: object) -> None:
        did.append("renamed")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_text(tmp_path / "a", "x")
    assert did == [".tmp", "renamed", ""], "the file, its name, the folder"
    did.clear()
    Results(tmp_path / "results.jsonl").add(("a",), {"accuracy": 1.0})
    assert did == [".jsonl"]
