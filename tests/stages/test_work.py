"""What is kept, in words, and how it is deleted."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attcli.cli.completion import KEPT
from attcli.stages import pipeline, work
from attcli.stages.expert_training import Trainer
from attcli.stages.run import Run
from attcli.stages.work import NAME
from attcli.store import experts
from attcli.store.files import locked
from tests.conftest import SMALL, Cli, settings_in
from tests.processes import CONTEXT

MakeRun = Callable[..., Run]


def distilled(cli: Cli) -> None:
    cli.small("evaluate", "--repeats", "1")


def test_kept_work_is_listed_in_words(cli: Cli) -> None:
    distilled(cli)
    output = cli("work")
    assert "att digits ipc 1, seed 0, 6 iterations, used by the results" in output
    assert "digits, standardise" in output
    assert "digits, convnet, 2 experts, 6 epochs in all" in output
    assert "scored networks" in output
    listed = json.loads(cli("work", "--json"))
    assert {entry["stage"] for entry in listed} == {"prepare", "buffer", "distill", "evaluate"}
    assert all(entry["size"] > 0 for entry in listed)
    (one,) = json.loads(cli("work", "--stage", "distill", "--json"))
    assert Path(one["folder"]).is_dir()


def test_work_of_every_name_that_is_listed_can_be_chosen(cli: Cli) -> None:
    Path(".attcli", "difficulty-" + "0" * 16).mkdir(parents=True)
    (one,) = json.loads(cli("work", "--stage", "difficulty", "--json"))
    assert one["stage"] == "difficulty"
    assert "choose prepare, difficulty, buffer, distill, evaluate or baselines" in cli("work", "--stage", "x", code=2)
    assert all(NAME.fullmatch(f"{stage}-{'0' * 16}") for stage in KEPT)


def test_a_file_that_vanishes_while_work_is_listed_is_left_out(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(".attcli", "evaluate-" + "0" * 16)
    folder.mkdir(parents=True)
    for name in (".results.x1y2z3w4.tmp", "results.jsonl"):
        (folder / name).write_text("a line\n")
    real = Path.is_file

    def is_file(path: Path) -> bool:
        was = real(path)
        if path.suffix == ".tmp":
            path.unlink(missing_ok=True)
        return was

    monkeypatch.setattr(Path, "is_file", is_file)
    (one,) = json.loads(cli("work", "--json"))
    assert one["size"] == len("a line\n")


def test_what_is_named_is_deleted_and_nothing_else(cli: Cli) -> None:
    distilled(cli)
    cli.small("distill", "--set", "distill.seed=1", "--artifacts", "other")
    both = json.loads(cli("work", "--stage", "distill", "--json"))
    assert len(both) == 2
    assert "nothing was deleted; --yes" in cli("work", "--prune", "--stage", "distill", code=2)
    assert "--prune deletes what you name" in cli("work", "--prune", code=2)
    assert "no kept work has a fingerprint that begins with xyz" in cli("work", "xyz", "--prune", code=2)
    assert "an empty fingerprint would name all kept work" in cli("work", "", "--prune", "--yes", code=2)
    assert "--yes goes with --prune" in cli("work", both[0]["fingerprint"], "--yes", code=2)
    assert "--json goes with the list alone" in cli("work", "--unused", "--prune", "--json", code=2)
    (first,) = json.loads(cli("work", both[0]["fingerprint"][:6], "--json"))
    assert first["folder"] == both[0]["folder"]
    cli("work", both[0]["fingerprint"][:6], "--prune", "--yes")
    assert [entry["folder"] for entry in json.loads(cli("work", "--stage", "distill", "--json"))] == [both[1]["folder"]]
    assert Path("artifacts/synthetic.h5").exists()
    assert Path("other/synthetic.h5").exists()


def test_work_that_only_other_work_is_linked_to_is_not_used(cli: Cli) -> None:
    cli.small("buffer", "--set", "buffer.waypoints=2")
    works = json.loads(cli("work", "--stage", "buffer", "--json"))
    assert len(works) == 2
    assert not any(work["used"] for work in works)
    cli.small("buffer", "--artifacts", "whole")
    works = json.loads(cli("work", "--stage", "buffer", "--json"))
    assert [work["used"] for work in works] == [True, True]


def test_age_and_use_choose_too(cli: Cli) -> None:
    distilled(cli)
    (scores,) = json.loads(cli("work", "--stage", "evaluate", "--json"))
    assert json.loads(cli("work", "--unused", "--json")) == [scores]
    old = time.time() - 10 * 86_400
    for path in Path(scores["folder"]).iterdir():
        os.utime(path, (old, old))
    cli("work", "--prune", "--older-than", "7d", "--yes")
    assert {entry["stage"] for entry in json.loads(cli("work", "--json"))} == {"prepare", "buffer", "distill"}


def test_a_time_limit_has_an_exit_code_of_its_own(cli: Cli) -> None:
    sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    cli("distill", *sets, "--iterations", "100000", "--time-limit", "1s", code=75)
    cli("distill", *sets, "--iterations", "2")
    said = cli("buffer", *sets, "--epochs", "100000", "--time-limit", "0:00:01", code=75)
    assert "stopped by the time limit before all experts were trained; run it again to continue" in said
    cli(
        "evaluate",
        *sets,
        "--set",
        "runtime.execution=eager",
        "--iterations",
        "2",
        "--repeats",
        "500",
        "--time-limit",
        "2s",
        code=75,
    )
    assert not Path("artifacts/scores.json").exists()
    cli("evaluate", *sets, "--iterations", "2", "--repeats", "1", "--time-limit", "1h")
    assert Path("artifacts/scores.json").exists()
    assert "write it as 90s" in cli("distill", "--time-limit", "soon", code=2)


def test_an_expert_that_is_finished_as_time_ends_is_published(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(buffer__experts=2)
    real = Trainer.train

    def last(self: Trainer, *args: Any) -> bool:
        done = real(self, *args)
        monkeypatch.setattr(Run, "out_of_time", lambda self: True)
        return done

    monkeypatch.setattr(Trainer, "train", last)
    pipeline.buffer(run)
    assert [path.name for path in experts.present(run.experts)] == ["expert-0000.h5"]


def test_work_whose_deletion_was_cut_short_can_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, run = tmp_path / f"evaluate-{'0' * 16}", Run(settings_in(tmp_path, runtime__work_dir=str(tmp_path)))
    folder.mkdir()
    (folder / "results.jsonl").touch()

    def killed(gone: Path) -> None:
        raise KeyboardInterrupt

    kept = work.listed(run)
    with monkeypatch.context() as patch:
        patch.setattr(work.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            work.prune(kept)
    (left,) = work.listed(run)
    assert ".deleting-" in left.folder.name
    folder.mkdir()  # the same work, begun anew
    with monkeypatch.context() as patch:  # a process of the same number, as in a container
        patch.setattr(work.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            work.prune([kept for kept in work.listed(run) if kept.folder == folder])
    both = work.listed(run)
    assert len(both) == 2
    assert work.prune(both) == (both, [])
    assert work.listed(run) == []


def prune_while_another_waits(folder: str) -> None:
    with locked(Path(folder), wait=lambda: True):
        Path(folder, "mine").touch()


def test_who_waits_for_work_that_is_deleted_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = tmp_path / f"evaluate-{'0' * 16}", shutil.rmtree
    folder.mkdir()
    (folder / "results.jsonl").touch()
    waiting = CONTEXT.Process(target=prune_while_another_waits, args=(str(folder),))

    def slow(gone: Path) -> None:
        time.sleep(0.5)
        real(gone)

    with locked(folder):
        waiting.start()
        while not waiting.is_alive():
            time.sleep(0.01)
        time.sleep(3)
        monkeypatch.setattr(work.shutil, "rmtree", slow)
        (one,) = work.listed(Run(settings_in(tmp_path, runtime__work_dir=str(tmp_path))))
        assert work.prune([one]) == ([one], [])
    waiting.join()
    assert waiting.exitcode == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("evaluate-")) == [folder.name]
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "mine"]


def test_fresh_and_seed_are_the_stages_own(cli: Cli, make_run: MakeRun) -> None:
    cli.small("distill")
    before = Path("artifacts/synthetic.h5").read_bytes()
    experts = Path("artifacts/experts/expert-0000.h5").stat().st_mtime_ns
    cli.small("distill", "--fresh")
    assert Path("artifacts/synthetic.h5").read_bytes() == before
    assert list(Path(".attcli").glob("distill-*.replaced-1/snapshots"))
    assert not list(Path(".attcli").glob("buffer-*.replaced*"))
    cli.small("distill", "--seed", "5", "--force")
    assert Path("artifacts/synthetic.h5").read_bytes() != before
    assert Path("artifacts/experts/expert-0000.h5").stat().st_mtime_ns == experts  # the same experts
    pipeline.prepare(make_run())
