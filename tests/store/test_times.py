"""What a stage took: measured with all its threads and processes, added up over invocations, and kept nowhere else."""

import errno
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attcli import __version__, ranks
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import artefact, times
from tests.faults.faulty import failing

MakeRun = Callable[..., Run]


def busy(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_cpu_time_is_that_of_all_threads_and_ended_processes(tmp_path: Path) -> None:
    with times.measured(tmp_path, "cpu"):
        threads = [threading.Thread(target=busy, args=(0.2,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        code = "import time\nwhile time.process_time() < 0.5: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        time.sleep(0.3)
    (line,) = times.read(tmp_path)
    assert 0.85 < line["cpu_s"] < 2
    assert line["wall_s"] > 0.95
    assert line["attcli"]["version"] == __version__
    assert line["machine"]["device"] == "cpu"
    assert line["machine"]["cores"] >= 1
    assert line["machine"]["cpu"]


def test_lines_add_up_however_the_work_ends(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), times.measured(tmp_path, "cpu"):
        raise KeyboardInterrupt
    with times.measured(tmp_path, "cpu"), times.measured(tmp_path / "inner", "cpu"):
        pass
    assert len(times.read(tmp_path)) == 2
    assert times.read(tmp_path / "inner") == []


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    with times.measured(tmp_path, "cpu"):
        pass
    path = tmp_path / times.NAME
    path.write_bytes(path.read_bytes()[:-20])
    with times.measured(tmp_path, "cpu"):
        pass
    assert len(path.read_bytes().splitlines()) == 2
    (line,) = times.read(tmp_path)
    assert line["wall_s"] >= 0


def test_a_line_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    full = failing(str(tmp_path), 1, errno.ENOSPC)
    with pytest.raises(OSError, match="No space"), full, times.measured(tmp_path, "cpu"):
        pass


def test_a_device_that_is_not_there_is_no_error_where_none_is_used(tmp_path: Path) -> None:
    with times.measured(tmp_path, "cuda:99"):
        pass
    (line,) = times.read(tmp_path)
    assert line["machine"]["device"] == "cpu"


def test_stages_keep_their_times_in_the_work_folder_and_no_artefact_holds_them(
    make_run: MakeRun, tmp_path: Path
) -> None:
    pipeline.distill(make_run(distill__iterations=2))
    before = {path: path.read_bytes() for path in (tmp_path / "artifacts").glob("snapshots/*0002.h5")}
    pipeline.distill(make_run(distill__iterations=4))
    pipeline.evaluate(make_run(distill__iterations=4))
    lines = {path.name.partition("-")[0]: times.read(path) for path in (tmp_path / ".attcli").iterdir()}
    assert {stage: len(of_stage) for stage, of_stage in lines.items()} == {
        "prepare": 1, "buffer": 1, "distill": 2, "evaluate": 1,
    }  # fmt: skip
    assert all(line["cpu_s"] > 0 and line["wall_s"] > 0 for of_stage in lines.values() for line in of_stage)
    assert {path: path.read_bytes() for path in before} == before
    header = artefact.header(tmp_path / "artifacts" / "synthetic.h5", "synthetic", "x")
    assert "cpu_s" not in json.dumps([header.about, header.settings])


def test_the_commit_is_that_of_attclis_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "site-packages"
    monkeypatch.setattr(times, "__file__", str(inner / "attcli" / "store" / "times.py"))
    commit = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(commit, cwd=tmp_path, check=True)
    inner.mkdir()
    assert times.commit.__wrapped__() is None  # the checkout around it is another project's
    subprocess.run(["git", "init", "-q", inner], check=True)
    subprocess.run(commit, cwd=inner, check=True)
    first = str(times.commit.__wrapped__())
    assert len(first) == 12
    (inner / "file").write_text("1")
    subprocess.run(["git", "add", "file"], cwd=inner, check=True)
    assert times.commit.__wrapped__() == f"{first}-dirty"


def test_what_other_processes_took_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = ranks.Ranks(0, 2)
    monkeypatch.setattr(ranks, "current", lambda: me)
    with times.measured(tmp_path, "cpu"):
        me.spent += 5
    (line,) = times.read(tmp_path)
    assert line["cpu_s"] >= 5
    assert line["processes"] == 2
