"""Experts with momentum: grown exactly, and their files tell nothing of how they came about."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attcli.stages import expert_training, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, experts
from tests.stages.observed import logged

MakeRun = Callable[..., Run]


@pytest.fixture
def train(make_run: MakeRun, tmp_path: Path) -> Callable[[str, int], list[bytes]]:
    """Trains two experts with momentum to so many epochs, in a folder of that name; gives the bytes of their files."""

    def trained(name: str, epochs: int) -> list[bytes]:
        run = make_run(
            tmp_path / name,
            buffer__momentum=0.9,
            buffer__epochs=epochs,
            distill__expert_epochs=1,
            distill__max_start_epoch=1,
        )
        pipeline.buffer(run)
        return [file.read_bytes() for file in experts.present(run.experts)]

    return trained


Train = Callable[[str, int], list[bytes]]


def count_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    epochs, real = [], expert_training.train_epoch
    monkeypatch.setattr(expert_training, "train_epoch", lambda *a, **o: epochs.append(1) or real(*a, **o))
    return epochs


def test_growing_is_exact_and_a_file_does_not_tell_its_history(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    short, whole = train("short", 2), train("whole", 4)
    epochs = count_epochs(monkeypatch)
    assert train("short", 4) == whole
    assert len(epochs) == 2 * 2
    assert train("short", 2) == short
    assert train("whole", 2) == short
    assert train("whole", 4) == whole
    assert len(epochs) == 2 * 2
    train("whole", 2)
    assert train("whole", 5) == train("short", 5)


def test_without_the_momentum_of_the_end_experts_are_trained_again(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("grown", 2)
    whole = train("whole", 4)
    shutil.rmtree(tmp_path / "grown" / ".attcli")
    epochs = count_epochs(monkeypatch)
    with logged() as lines:
        assert train("grown", 4) == whole
    assert sum("the momentum after epoch 2 of" in line and "from epoch 0 on" in line for line in lines) == 2
    assert len(epochs) == 2 * 4


def test_the_momentum_of_an_earlier_epoch_serves_a_longer_expert_from_elsewhere(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("here", 2)
    train("elsewhere", 3)
    whole = train("whole", 5)
    for file in (tmp_path / "elsewhere" / "artifacts" / "experts").iterdir():
        shutil.copy(file, tmp_path / "here" / "artifacts" / "experts" / file.name)
    epochs = count_epochs(monkeypatch)
    assert train("here", 5) == whole
    assert len(epochs) == 2 * 3


def test_files_of_earlier_versions_that_hold_momentum_are_used_and_replaced(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, whole = train("old", 2), train("whole", 4)
    for file in (tmp_path / "old" / ".attcli").glob("buffer-*/expert-*.h5"):
        header, arrays = artefact.read(file, experts.KIND, experts.MAKER, covered=("parameters",))
        velocity = Path(f"{file.with_suffix('')}.velocity-2")
        arrays["velocity"] = np.frombuffer(velocity.read_bytes()[32:], "f4")
        velocity.unlink()
        rows = {"parameters": list(arrays.pop("parameters"))}
        artefact.write(file, header, arrays, rows)
        shutil.copy(file, tmp_path / "old" / "artifacts" / "experts" / file.name)
    epochs = count_epochs(monkeypatch)
    assert train("old", 2) == short
    assert epochs == []
    assert train("old", 4) == whole
    assert len(epochs) == 2 * 2
