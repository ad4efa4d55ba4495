"""What is damaged or missing is made anew, from what is kept, when one follows the message."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch

from attcli.errors import UserError
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import artefact, experts, states
from tests.conftest import settings_in
from tests.stages.observed import contents, logged, states_of


def spoil(path: Path) -> None:
    """Change a byte in the middle, in place, as a bad disk does: in all its hard links."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 255]))


def test_a_damaged_expert_is_replaced_when_one_follows_the_message(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path, distill__init="correct"))  # every expert is read to its end
    pipeline.buffer(run)
    whole = experts.path(run.experts, 1).read_bytes()
    spoil(experts.path(run.experts, 1))
    with pytest.raises(UserError, match=r"expert-0001\.h5 is damaged.*move it elsewhere and run `attcli buffer`"):
        experts.read(experts.path(run.experts, 1))
    experts.path(run.experts, 1).unlink()
    with logged() as lines:
        pipeline.buffer(run)
    assert any("is damaged" in line and "made anew" in line for line in lines)
    assert experts.path(run.experts, 1).read_bytes() == whole


def test_a_damaged_dataset_is_replaced_when_one_follows_the_message(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path))
    pipeline.prepare(run)
    whole = run.dataset.read_bytes()
    spoil(run.dataset)
    with pytest.raises(UserError, match=r"dataset\.h5 is damaged.*move it elsewhere and run `attcli prepare`"):
        pipeline.prepare(run)
    run.dataset.unlink()
    pipeline.prepare(run)
    assert run.dataset.read_bytes() == whole


def test_a_damaged_snapshot_is_no_end_of_the_road(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path))
    pipeline.distill(run)
    whole = run.synthetic.read_bytes()
    snapshots = states.snapshots(run.snapshots)
    for file in snapshots[1:]:
        spoil(file)
    for file in snapshots:
        file.unlink()
    with logged() as lines:
        pipeline.distill(run)
    assert sum("made anew" in line for line in lines) == 2
    assert run.synthetic.read_bytes() == whole
    torch.testing.assert_close(states_of(run)[1].iteration, 4)


def test_a_deleted_work_folder_does_not_shorten_the_history(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path))
    pipeline.distill(run)
    shutil.rmtree(run.settings.runtime.work_dir)
    pipeline.distill(Run(settings_in(tmp_path, distill__iterations=8)))
    with h5py.File(run.history) as file:
        assert file["iteration"][()].tolist() == list(range(8))


def test_what_a_killed_process_had_begun_goes_also_where_nothing_is_left_to_do(tmp_path: Path) -> None:
    run = Run(settings_in(tmp_path, buffer__experts=1))
    pipeline.buffer(run)
    begun = [folder / ".expert-0000.h5.wasalive.tmp" for folder in (run.experts, run.experts.parent)]
    for path in begun:
        path.touch()
    pipeline.buffer(run)
    assert not any(path.exists() for path in begun)


@pytest.mark.parametrize("stage", ["prepare", "buffer", "distill"])
def test_fresh_ignores_what_is_kept(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from attcli.stages import distill, expert_training, prepare

    functions = {
        "prepare": (prepare, "_make"),
        "buffer": (expert_training, "train_epoch"),
        "distill": (distill.Loop, "iterate"),
    }
    run = Run(settings_in(tmp_path))
    pipeline.distill(run)
    whole = run.synthetic.read_bytes()
    calls: list[str] = []
    for name, (place, function) in functions.items():
        real = getattr(place, function)

        def counted(*inputs: object, name: str = name, real: Callable = real, **options: object) -> object:
            calls.append(name)
            return real(*inputs, **options)

        monkeypatch.setattr(place, function, counted)
    pipeline.distill(run)
    assert calls == []
    getattr(pipeline, stage)(Run(settings_in(tmp_path), fresh=stage))
    assert set(calls) == {stage}
    pipeline.distill(run)
    assert run.synthetic.read_bytes() == whole


@pytest.mark.parametrize("lost", [4, 6])
def test_a_snapshot_that_could_not_be_written_is_there_after_the_next_run(
    lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = Run(settings_in(tmp_path / "whole")), Run(settings_in(tmp_path / "run"))
    pipeline.distill(whole)
    real = states.write

    def fail(path: Path, header: artefact.Header, state: states.State) -> None:
        if path.name == f"iteration-000000{lost}.h5":
            raise OSError(errno.EIO, "Input/output error")
        real(path, header, state)

    with monkeypatch.context() as patched:
        patched.setattr(states, "write", fail)
        with pytest.raises(OSError, match="Input/output error"):
            pipeline.distill(run)
    pipeline.distill(run)
    assert contents(run) == contents(whole)
