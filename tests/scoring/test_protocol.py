"""The evaluation protocol, exact and as released."""

import pytest
import torch

from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring.protocol import Protocol, StoppedError, accuracy, fresh, schedule, train

ARCHITECTURE = Architecture("mlp", 1, 2, 4, {})


def trained(images, labels, chosen: Protocol, repeat: int = 0):
    """A student and the parameters that it is trained to."""
    key = (0, "x", repeat)
    student = Student.of(ARCHITECTURE.build())
    return student, train(student, fresh(ARCHITECTURE, key), images, labels, 2, 0.05, chosen, key)


def protocol(name: str = "exact", epochs: int = 1000) -> Protocol:
    return Protocol(name, epochs, 256, 0.9, 5e-4, "none")


def test_exact_is_exactly_the_epochs_with_a_tenth_from_the_midpoint() -> None:
    passes = list(schedule(protocol()))
    assert len(passes) == 1000
    assert [factor for factor, _ in passes].index(0.1) == 500
    assert not any(afresh for _, afresh in passes)


def test_released_is_1001_passes_502_of_them_before_the_reset() -> None:
    passes = list(schedule(protocol("released")))
    assert len(passes) == 1001
    assert sum(factor == 1.0 for factor, _ in passes) == 502
    assert [position for position, (_, afresh) in enumerate(passes) if afresh] == [502]


def test_training_separates_what_can_be_separated_and_repeats_itself() -> None:
    images = torch.cat([torch.ones(3, 1, 4, 4), -torch.ones(3, 1, 4, 4)])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    student, theta = trained(images, labels, protocol(epochs=30))
    assert accuracy(student, theta, images, labels) == 100
    assert accuracy(student, theta, images, 1 - labels) == 0
    again = trained(images, labels, protocol(epochs=30))[1]
    other = trained(images, labels, protocol(epochs=30), 1)[1]
    assert torch.equal(theta, again)
    assert not torch.equal(theta, other)


def test_released_and_exact_differ_by_the_reset() -> None:
    images, labels = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 0, 1])
    found = [trained(images, labels, protocol(name, 6))[1] for name in ("exact", "released")]
    assert not torch.equal(*found)


def test_soft_labels_are_learned_from() -> None:
    images = torch.cat([torch.ones(2, 1, 4, 4), -torch.ones(2, 1, 4, 4)])
    logits = torch.tensor([[4.0, -4.0]] * 2 + [[-4.0, 4.0]] * 2)
    student, theta = trained(images, logits, protocol(epochs=30))
    assert accuracy(student, theta, images, torch.tensor([0, 0, 1, 1])) == 100


@pytest.mark.parametrize("count", [1, 499, 500, 501])
def test_accuracy_counts_every_image(count: int) -> None:
    module = ARCHITECTURE.build()
    student, theta = Student.of(module), vector(module)
    images = torch.randn(count, 1, 4, 4)
    labels = module(images).argmax(dim=1)
    labels[0] = 1 - labels[0]
    assert accuracy(student, theta, images, labels) == pytest.approx(100 * (count - 1) / count)


def test_training_stops_when_asked() -> None:
    student, key = Student.of(ARCHITECTURE.build()), (0, "x", 0)
    images, labels = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 0, 1])
    with pytest.raises(StoppedError):
        train(student, fresh(ARCHITECTURE, key), images, labels, 2, 0.05, protocol(), key, lambda: True)
