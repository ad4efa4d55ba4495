"""Several processes share a command's work, and the results are the bytes that one process makes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from attcli import ranks, workers
from attcli.cli.command import MORE_IS_LEFT
from attcli.errors import UserError
from attcli.stages import evaluate, jobs, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, synthetic
from tests.conftest import SMALL, settings_in
from tests.stages.observed import contents

CHANGES: dict[str, object] = {
    "buffer__experts": 3,
    "distill__iterations": 4,
    "distill__spans": 2,
    "distill__labels": "learned",
    "evaluate__repeats": 3,
    "evaluate__baselines": "random,herding",
    "evaluate__whole_epochs": 2,
    "runtime__threads": 1,
    "runtime__micro_batch": 3,
}
"""Three slices per batch, and two spans per iteration."""


def arguments(command: str, folder: Path, **changes: object) -> list[str]:
    """A command's words, with the small run's settings."""
    settings = {**SMALL, **{name.replace("__", "."): value for name, value in {**CHANGES, **changes}.items()}}
    settings = {"runtime.artifacts": folder / "artifacts", "runtime.work_dir": folder / ".attcli", **settings}
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return [command, *sets]


def torchrun(count: int, *options: str) -> list[str]:
    """The words that start so many processes of attcli."""
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", *options, "-m", "attcli"]


def python(folder: Path, *words: str, variables: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd()), **(variables or {})}
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    STARTED.append(process)
    return process


STARTED: "list[subprocess.Popen[str]]" = []


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    """A test that fails leaves no process behind; those that it started end when it does."""
    yield
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.communicate()
    STARTED.clear()


def finished(process: "subprocess.Popen[str]", code: int = 0) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return str(said)


def results(folder: Path) -> dict[str, object]:
    """What a run has left, without times."""
    return contents(Run(settings_in(folder, **CHANGES)))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one process."""
    folder = tmp_path_factory.mktemp("alone")
    finished(python(folder, "-m", "attcli", *arguments("evaluate", folder)))
    return folder


@pytest.mark.parametrize("way", ["workers", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_results_do_not_depend_on_the_number_of_processes(tmp_path: Path, alone: Path, way: str) -> None:
    if way == "workers":  # one team of two shares the slices of its span, the other is a process alone
        words = ["-m", "attcli", *arguments("evaluate", tmp_path, runtime__workers=3)]
    else:  # as many spans as processes
        words = [*torchrun(2), *arguments("evaluate", tmp_path)]
    said = finished(python(tmp_path, *words))
    assert said.count("INFO    evaluate: ") == 1, said  # the others say nothing
    assert results(tmp_path) == results(alone)
    assert not list(tmp_path.glob(".attcli/*/results-*.jsonl"))


@pytest.mark.slow
def test_a_distillation_resumes_on_another_number_of_processes(tmp_path: Path, alone: Path) -> None:
    finished(python(tmp_path, "-m", "attcli", *arguments("distill", tmp_path, distill__iterations=2)))
    finished(python(tmp_path, *torchrun(4), *arguments("distill", tmp_path)))
    wanted, found = results(alone), results(tmp_path)
    assert found == {name: wanted[name] for name in wanted if not name.startswith("scores")}


REMEMBERING: dict[str, dict[str, object]] = {
    "ld": {"distill__objective": "label-distillation", "distill__along_patience": 1},
    "clip": {"distill__objective": "real-loss", "distill__clip": 0.9, "distill__steps_before": 2},
}
"""Objectives that go on with a network, or with a length of the gradient, from one iteration to the next."""


@pytest.mark.slow
@pytest.mark.parametrize("name", REMEMBERING)
def test_what_an_objective_remembers_does_not_depend_on_the_number_of_processes(tmp_path: Path, name: str) -> None:
    changes = {
        **REMEMBERING[name],
        "distill__spans": 1,
        "distill__iterations": 3,
        "distill__real_batch": 20,
        "distill__label_init": "classes",
    }
    one, two = tmp_path / "one", tmp_path / "two"
    pipeline.distill(Run(settings_in(one, **{**CHANGES, **changes})))
    words = arguments("distill", two, **changes, runtime__workers=2)
    finished(python(two, "-m", "attcli", *words))
    assert results(two) == results(one)


def pids(folder: Path) -> list[int]:
    """The processes of attcli that work in a folder, without torchrun itself."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, NotADirectoryError):
            continue
        if str(folder).encode() in b" ".join(words) and b"torch.distributed.run" not in words:
            found.append(int(entry.name))
    return sorted(found)


@pytest.fixture
def ready(tmp_path: Path, alone: Path) -> Path:
    """A folder whose dataset and experts are finished."""
    for pattern in ("prepare-*", "buffer-*"):
        for folder in alone.glob(f".attcli/{pattern}"):
            shutil.copytree(folder, tmp_path / ".attcli" / folder.name)
    return tmp_path


LONG: dict[str, object] = {"distill__iterations": 100_000, "evaluate__baselines": "random"}


def begun(folder: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until a distillation has saved a set."""
    while not (folder / "artifacts" / "synthetic.h5").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
@pytest.mark.slow
def test_a_killed_process_is_restarted_and_nothing_is_lost(tmp_path: Path, alone: Path) -> None:
    slowed = {**CHANGES, "distill__save_every": 1, "distill__iterations": 4, "distill__syn_steps": 5}
    words = [*torchrun(2, "--max-restarts=1"), *arguments("distill", tmp_path, **slowed)]
    process = python(tmp_path, *words)
    begun(tmp_path, process)
    os.kill(pids(tmp_path)[-1], signal.SIGKILL)
    assert "exitcode: -9" in finished(process)
    wanted, found = results(alone), results(tmp_path)
    more = {name for name in found if name.startswith("snapshots/")}  # a snapshot for every iteration
    same = {name for name in wanted if name not in more and not name.startswith("scores")}
    assert {"synthetic.h5", "history/loss", "experts/expert-0000.h5"} <= same
    assert {name: found[name] for name in same} == {name: wanted[name] for name in same}


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_where_a_started_process_dies_the_first_says_so_and_saves(ready: Path) -> None:
    process = python(ready, "-m", "attcli", *arguments("distill", ready, runtime__workers=2, **LONG))
    begun(ready, process)
    last = saved(ready)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (other,) = [int(c) for c in children if b"-m\0attcli\0" in Path(f"/proc/{c}/cmdline").read_bytes()]
    time.sleep(1)  # some iterations more
    os.kill(other, signal.SIGKILL)
    said = finished(process, code=2)
    assert "of this run has ended" in said
    assert "Traceback" not in said
    assert saved(ready) >= last
    rows = (ready / "artifacts" / "history.csv").read_text().splitlines()  # published with the last save alone
    assert int(rows[-1].split(",")[0]) + 1 == saved(ready)


def saved(folder: Path) -> int:
    """The iteration of the set among the results."""
    path = folder / "artifacts" / "synthetic.h5"
    return int(artefact.header(path, synthetic.KIND, synthetic.MAKER).about["iteration"])


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_signal_of_a_batch_system_saves_and_ends_with_its_code(ready: Path, number: signal.Signals) -> None:
    process = python(ready, "-m", "attcli", *arguments("distill", ready, runtime__workers=2, **LONG))
    begun(ready, process)
    process.send_signal(number)
    process.send_signal(number)  # which is the same request
    said = finished(process, code=MORE_IS_LEFT)
    assert "stopped by a signal; what is done is saved" in said
    assert f"holds iteration {saved(ready)}" not in said  # it was stopped, not finished
    assert list(ready.glob(".attcli/distill-*/latest.h5")) or saved(ready) % 2 == 0


def test_an_error_is_said_once(ready: Path) -> None:
    words = [*torchrun(2), *arguments("distill", ready, distill__lr_img=1e30, distill__max_bad_updates=1)]
    said = finished(python(ready, *words), code=1)  # torchrun's own code
    assert said.count("attcli: ") == 1, said


@pytest.mark.slow
def test_a_command_that_shares_nothing_runs_once(tmp_path: Path) -> None:
    said = finished(python(tmp_path, *torchrun(2), "recipes", "--dataset", "digits"))
    assert said.count("att/digits/ipc1 ") == 1, said


def started_by_hand(folders: list[Path], *words: str) -> "list[subprocess.Popen[str]]":
    """A process in each folder, which know each other by their environment alone, as `srun` starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    variables = {"WORLD_SIZE": str(len(folders)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        python(folder, "-m", "attcli", *words, variables={**variables, "RANK": str(rank)})
        for rank, folder in enumerate(folders)
    ]


@pytest.mark.slow
def test_processes_that_no_torchrun_started_all_end_well(tmp_path: Path) -> None:
    words = arguments("evaluate", tmp_path, evaluate__baselines="forgetting", evaluate__forgetting_runs=3)
    first, *others = [finished(process) for process in started_by_hand([tmp_path] * 3, *words)]
    assert "training 3 convnet" in first or "training 1 convnet" in first, first
    assert [said for said in others if said.strip()] == []
    trained = list(tmp_path.glob(".attcli/baselines-*/convnet-*.npz"))
    assert len(trained) == 3  # by one process each


def test_what_one_process_lacks_is_said_by_the_first(tmp_path: Path) -> None:
    """The second one sees another folder, as on a machine that does not share the disk."""
    settings = {"runtime__artifacts": "artifacts", "runtime__work_dir": ".attcli", **LONG}
    pipeline.buffer(Run(settings_in(tmp_path, **CHANGES)))
    words = arguments("distill", tmp_path, **settings)
    first, other = started_by_hand([tmp_path, tmp_path / "elsewhere"], *words)
    said = finished(first, code=2)
    assert "dataset.h5 is missing" in said
    assert "(process 1 of 2)" in said
    finished(other, code=2)


@pytest.mark.slow
def test_all_processes_score_by_the_protocol_that_was_asked_for(tmp_path: Path) -> None:
    """What no flag says comes from the set's file; on all processes."""
    finished(python(tmp_path, "-m", "attcli", *arguments("distill", tmp_path)))
    own = ["--set", f"runtime.work_dir={tmp_path / '.attcli'}", "--artifacts", str(tmp_path / "artifacts")]
    own += ["--set", "runtime.workers=2", "--set", "evaluate.epochs=4", "--repeats", "2"]
    said = finished(python(tmp_path, "-m", "attcli", "evaluate", "--protocol", "idc", *own))
    assert "idc" in (tmp_path / "artifacts" / "scores-about.json").read_text(), said


def test_each_process_of_a_machine_gets_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert ranks.device("auto") == "auto"  # alone
    for local, name in ((0, "cuda:0"), (3, "cuda:3")):
        monkeypatch.setattr(ranks, "current", lambda local=local: ranks.Ranks(local, 4, local, 4))
        assert ranks.device("auto") == ranks.device("cuda") == name
        assert ranks.device("cpu") == "cpu"
        assert ranks.device("cuda:1") == "cuda:1"
    monkeypatch.setattr(ranks, "current", lambda: ranks.Ranks(1, 8, 1, 8))
    with pytest.raises(UserError, match=r"8 processes on this machine share 4 GPUs; start at most 4"):
        ranks.device("auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # the batch system hides the others
    assert ranks.device("auto") == "cuda:0"


def test_the_first_process_does_not_wait_for_one_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It also hears signals meanwhile, as it waits in Python."""
    for name, value in workers.of_workers(2).items():
        monkeypatch.setenv(name, value)

    def watch() -> None:
        raise ranks.LostError("process 1 of 2 has ended")

    begun = time.monotonic()
    with pytest.raises(ranks.LostError, match="process 1 of 2 has ended"), ranks.joined(ranks.of(os.environ), watch):
        pytest.fail("joined alone")
    assert time.monotonic() - begun < 60
    assert ranks.current() is ranks.ALONE


def test_workers_look_for_modules_where_the_first_does(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = ["/usr/bin", *(path for path in sys.path if path not in ("", os.getcwd()))]
    for path in ([os.getcwd(), *elsewhere], [*elsewhere, ""]):
        monkeypatch.setattr(sys, "path", path)
        assert workers._as_here() == []
    monkeypatch.setattr(sys, "path", elsewhere)  # as of a command that was installed there
    assert workers._as_here() == ["-P"]


def test_a_set_that_was_changed_meanwhile_is_not_scored_with_the_others(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path))
    pipeline.distill(run)
    job = jobs.Job(ranks.ALONE, 0)
    with pytest.raises(UserError, match=r"synthetic\.h5 was changed while it was scored; wait until"):
        evaluate.share(run, job, str(run.synthetic), None, "0" * 64, "test", [], [])


def test_what_a_disk_shows_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([False, False, True])
    monkeypatch.setattr(ranks, "current", lambda: ranks.Ranks(0, 2))
    assert jobs.seen(lambda: next(looks))
    monkeypatch.setattr(jobs, "DISK_SECONDS", 0)
    assert not jobs.seen(lambda: False)


def test_other_processes_get_what_is_left_of_the_time(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path), time_limit=100.0, begun=time.monotonic() - 40)
    assert jobs._of_run(run)["seconds"] == pytest.approx(60, abs=5)
    assert jobs._of_run(Run(settings_in(tmp_path)))["seconds"] is None


def test_a_process_knows_its_place_on_its_machine() -> None:
    where = {"MASTER_ADDR": "a", "MASTER_PORT": "1", "RANK": "5", "WORLD_SIZE": "8"}
    me = ranks.of({**where, "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"})
    assert (me.rank, me.size, me.local, me.beside) == (5, 8, 1, 4)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert workers.of_workers(4)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert workers.of_workers(4)["OMP_NUM_THREADS"] == "3"


def test_variables_that_name_no_process_are_refused() -> None:
    told = {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    with pytest.raises(UserError, match="RANK=2, WORLD_SIZE=2 name no process"):
        ranks.of(told)
    assert ranks.of({**told, "MASTER_ADDR": ""}) is ranks.ALONE
    assert not ranks.of({**told, "RANK": "0", "WORLD_SIZE": "1"}).several
