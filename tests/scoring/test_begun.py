"""A network's training that was stopped goes on where it was saved, and ends with the same bits."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attcli.errors import UserError
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring import begun
from attcli.scoring import training as scored
from attcli.scoring.begun import Begun
from attcli.scoring.combined import as_met
from attcli.scoring.forgetting import Presentations
from attcli.scoring.protocol import NAMED, Protocol
from attcli.scoring.training import StoppedError, fresh, train
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import artefact
from attcli.trainers import training
from tests.conftest import settings_in
from tests.stages.observed import logged

CONVNET = Architecture("convnet", 1, 10, 8, {"width": 4, "depth": 2})
CASE = ("convnet", "synthetic", "0", "{}")
PROTOCOLS = {
    "exact": Protocol("exact", epochs=7, batch=4),
    "released": Protocol("released", epochs=7, batch=4),
    "adam": replace(NAMED["adam"], epochs=7, batch=4),
    "cutmix": replace(NAMED["idc"], epochs=7, batch=4, tests=2),
    "selmatch": replace(NAMED["selmatch"], epochs=7, batch=4),
}


def trained(
    chosen: Protocol,
    kept: Begun | None = None,
    stop: Callable[[], bool] = lambda: False,
    met: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
    """The parameters after a training on ten random images."""
    images = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    tested = [] if kept is None else kept.tests

    def after(passes: int, theta: Tensor) -> None:
        if chosen.tests and passes % chosen.tests == 0:
            tested.append({"accuracy": float(theta.sum())})

    key, draws = (0, "x", 0), torch.Generator().manual_seed(1)
    seen, augmented = as_met(images, torch.arange(10) < 5, chosen, draws)
    theta, student = fresh(CONVNET, key), Student.of(CONVNET.build())
    if kept is not None:
        kept.draws = [draws]
    return train(student, theta, seen, torch.arange(10), 10, 0.05, augmented, key, stop, met, after, kept)


def after_calls(count: int) -> Callable[[], bool]:
    """False so often, and then true."""
    calls = iter(range(count))
    return lambda: next(calls, None) is None


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("passes", [1, 4, 6])
def test_it_goes_on_with_the_same_bits(name: str, passes: int, tmp_path: Path) -> None:
    whole = Begun(tmp_path / "whole", CASE)
    wanted = trained(PROTOCOLS[name], whole)
    kept = Begun(tmp_path, CASE)
    with pytest.raises(StoppedError):
        trained(PROTOCOLS[name], kept, after_calls(passes))
    calls: list[None] = []
    again = Begun(tmp_path, CASE)
    assert torch.equal(trained(PROTOCOLS[name], again, lambda: bool(calls.append(None))), wanted)
    assert len(calls) == 7 + (name == "released") - passes
    assert again.tests == whole.tests
    assert len(again.tests) == (3 if name == "cutmix" else 0)


def test_it_is_saved_every_few_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begun, "SAVE_SECONDS", 0.0)
    wanted, calls = trained(PROTOCOLS["exact"]), iter(range(5))

    def killed() -> bool:
        if next(calls, None) is None:
            raise MemoryError
        return False

    with pytest.raises(MemoryError):
        trained(PROTOCOLS["exact"], Begun(tmp_path, CASE), killed)
    assert len(list(tmp_path.iterdir())) == 1
    asked: list[None] = []
    assert torch.equal(trained(PROTOCOLS["exact"], Begun(tmp_path, CASE), lambda: bool(asked.append(None))), wanted)
    assert len(asked) == 7 - 4  # the pass after the last save is made again


def test_what_other_trainings_wait_for_is_kept_when_it_is_over(tmp_path: Path) -> None:
    wanted = trained(PROTOCOLS["exact"], Begun(tmp_path, CASE, is_kept=True))
    calls: list[None] = []
    again = trained(PROTOCOLS["exact"], Begun(tmp_path, CASE, is_kept=True), lambda: bool(calls.append(None)))
    assert torch.equal(again, wanted)
    assert not calls
    trained(PROTOCOLS["exact"], Begun(tmp_path / "alone", CASE))
    assert not list((tmp_path / "alone").glob("*"))


def test_large_tests_are_saved_and_read_again(tmp_path: Path) -> None:
    matrix = torch.arange(1000).expand(1000, 1000)
    tests = [{"accuracy": 1.5, "confusion": matrix.tolist()}, {"accuracy": 2.5}, {"confusion": matrix.T.tolist()}]
    theta, optimiser, generator = torch.ones(3), training.Optimiser(0.1, 0.9, 0.0), torch.Generator()
    Begun(tmp_path, CASE, tests=tests).save(5, theta, optimiser, generator)
    again = Begun(tmp_path, CASE)
    assert again.restore(torch.zeros(3), training.Optimiser(0.1, 0.9, 0.0), generator) == 5
    assert again.tests == tests


def test_a_training_that_the_system_does_not_let_be_read_is_not_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theta, optimiser, generator = torch.ones(3), training.Optimiser(0.1, 0.9, 0.0), torch.Generator()
    Begun(tmp_path, CASE).save(5, theta, optimiser, generator)

    def read(*_: object) -> None:
        raise artefact.unreadable(tmp_path, "", OSError(errno.ESTALE, ""))

    with monkeypatch.context() as patch:
        patch.setattr(artefact, "read", read)
        with pytest.raises(UserError, match="Stale file handle"):
            Begun(tmp_path, CASE).restore(theta, optimiser, generator)
    assert Begun(tmp_path, CASE).restore(theta, optimiser, generator) == 5


def test_what_a_training_counts_is_saved_with_it(tmp_path: Path) -> None:
    whole, first, second = (Presentations.of(10, torch.device("cpu")) for _ in range(3))
    trained(PROTOCOLS["exact"], met=whole.met)
    with pytest.raises(StoppedError):
        trained(PROTOCOLS["exact"], Begun(tmp_path, CASE, beside=vars(first)), after_calls(4), first.met)
    trained(PROTOCOLS["exact"], Begun(tmp_path, CASE, beside=vars(second)), met=second.met)
    assert whole.times.tolist() == [7] * 10
    for name, counted in vars(whole).items():
        assert torch.equal(getattr(second, name), counted), name


def test_nothing_is_saved_of_a_training_that_has_made_no_pass(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        trained(PROTOCOLS["exact"], Begun(tmp_path, CASE), lambda: True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("problem", ["cut short", "another training"])
def test_what_is_damaged_or_of_another_training_is_not_used(problem: str, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        trained(PROTOCOLS["exact"], Begun(tmp_path, CASE), after_calls(3))
    (file,) = tmp_path.iterdir()
    if problem == "cut short":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        other = Begun(tmp_path, CASE, number=1)
        file.rename(other._file)
    with logged() as lines:
        found = trained(PROTOCOLS["exact"], Begun(tmp_path, CASE, number=int(problem != "cut short")))
    assert torch.equal(found, trained(PROTOCOLS["exact"]))
    assert any("a training that was begun is made anew" in line for line in lines)


SHORT: dict[str, object] = {
    "buffer__experts": 1,
    "distill__iterations": 1,
    "evaluate__epochs": 8,
    "evaluate__repeats": 2,
    "evaluate__random_lrs": (0.02,),
    "runtime__threads": 1,
}


STOPS = (5, 30, 46, 57)
"""Passes in the middle of networks of the set, and of those of real images at a second and at a first rate."""


def test_an_evaluation_that_was_interrupted_goes_on_in_the_middle_of_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = (Run(settings_in(tmp_path / name, **SHORT)) for name in ("whole", "stopped"))
    wanted = pipeline.evaluate(whole)["scores"]
    pipeline.distill(run)
    passes, real = [], training.train_epoch

    def interrupted(*args: object, **options: object) -> Tensor:
        passes.append(None)
        if len(passes) in STOPS:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(begun, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(scored, "train_epoch", interrupted)
    for _ in STOPS:
        with pytest.raises(KeyboardInterrupt):
            pipeline.evaluate(run)
    assert pipeline.evaluate(run)["scores"] == wanted
    networks = 2 * (2 + 2)  # two of the set and two of its average, and two of real images at each of two rates
    assert len(passes) == networks * 8 + len(STOPS)  # only the passes that were interrupted were made again
    assert not list(tmp_path.rglob("training-*.h5"))
