"""Networks trained side by side."""

import threading
import time
from contextlib import suppress
from functools import partial

import pytest
import torch

from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring.parallel import trained_apart
from attcli.scoring.protocol import Protocol
from attcli.scoring.training import fresh, train

CPU = torch.device("cpu")
CONVNET = Architecture("convnet", 1, 10, 8, {"width": 8, "depth": 2})


def parameters(repeats: int, cores: int) -> dict[int, torch.Tensor]:
    """The parameters of each repeat after ten steps."""
    images, labels = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(10)
    student, protocol = Student.of(CONVNET.build()), Protocol("exact", 10, 256, 0.9, 5e-4, "crop_scale")

    def one(repeat: int, stop) -> torch.Tensor:
        key = (0, "x", repeat)
        return train(student.apart(), fresh(CONVNET, key), images, labels, 10, 0.05, protocol, key, stop)

    torch.set_num_threads(cores)
    with trained_apart(CPU) as each:
        return dict(each({repeat: partial(one, repeat) for repeat in range(repeats)}))


def test_results_do_not_depend_on_how_many_are_trained_or_on_how_many_cores() -> None:
    alone, many = parameters(1, 1), parameters(5, 2)
    assert torch.equal(alone[0], many[0])
    assert not torch.equal(many[0], many[1])
    assert all(torch.equal(theta, many[repeat]) for repeat, theta in parameters(5, 1).items())


def test_threads_are_given_back() -> None:
    torch.set_num_threads(2)
    with trained_apart(CPU) as each:
        assert torch.get_num_threads() == 1
        assert [done for _, done in each({0: lambda stop: torch.get_num_threads()})] == [1]
    assert torch.get_num_threads() == 2


def test_an_interruption_stops_what_runs_and_drops_what_waits() -> None:
    torch.set_num_threads(1)
    begun, ran, stopped = threading.Event(), [], []

    def endless(name: int, stop) -> int:
        ran.append(name)
        begun.set()
        while not stop():
            time.sleep(0.001)
        stopped.append(name)
        return name

    def read(results) -> None:
        with suppress(RuntimeError):  # where the end comes before the last job is handed in
            list(results)

    def interrupted() -> None:
        with trained_apart(CPU) as each:
            found = each({name: partial(endless, name) for name in range(3)})
            threading.Thread(target=read, args=(found,), daemon=True).start()
            begun.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stopped == ran == [0]


def test_a_failing_training_is_reported() -> None:
    def broken(stop) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), trained_apart(CPU) as each:
        list(each({0: broken}))
