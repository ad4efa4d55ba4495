"""Batches with equally many images of each class."""

import pytest
import torch

from attcli.matching.balanced import balanced, cyclic
from attcli.runtime import stream


@pytest.mark.parametrize("batch", [4, 8])
def test_as_many_of_each_class_and_each_image_once_before_any_twice(batch: int) -> None:
    plan = balanced(images=12, classes=4, batch=batch, n_steps=9, strategy="none", generator=stream(0, "plan"))
    classes = plan.indices // 3
    assert plan.indices.shape == (9, batch)
    for row in classes:
        assert row.bincount(minlength=4).tolist() == [batch // 4] * 4
    drawn = plan.indices.flatten()
    for passes in range(9 * batch // 12):
        of_passes = torch.stack([drawn[drawn // 3 == c][3 * passes : 3 * passes + 3] for c in range(4)])
        assert sorted(of_passes.flatten().tolist()) == list(range(12))
    assert torch.allclose(plan.weights.sum(dim=1), torch.ones(9).double())


def test_fewer_images_than_classes_come_from_different_classes_that_take_turns() -> None:
    plan = balanced(images=12, classes=4, batch=2, n_steps=10, strategy="none", generator=stream(0, "plan"))
    drawn = plan.indices.flatten()
    for pass_ in (drawn // 3).split(4):
        assert sorted(pass_.tolist()) == [0, 1, 2, 3]
    for c in range(4):
        of_class = drawn[drawn // 3 == c]
        assert sorted(of_class[:3].tolist()) == [3 * c, 3 * c + 1, 3 * c + 2]


def test_classes_of_a_batch_are_different_where_turns_end_within_it() -> None:
    plan = balanced(images=12, classes=4, batch=3, n_steps=40, strategy="none", generator=stream(0, "plan"))
    assert all(len({*batch}) == 3 for batch in (plan.indices // 3).tolist())
    assert all(len({*turn}) == 4 for turn in (plan.indices // 3).view(30, 4).tolist())


def test_images_of_a_batch_are_different_where_passes_end_within_it() -> None:
    plan = balanced(images=30, classes=10, batch=20, n_steps=30, strategy="none", generator=stream(0, "plan"))
    assert all(len({*batch}) == 20 for batch in plan.indices.tolist())
    for c in range(10):
        of_class = plan.indices[plan.indices // 3 == c]
        assert all(len({*turn}) == 3 for turn in of_class.view(20, 3).tolist())
    assert len({tuple(turn) for turn in (plan.indices % 3).view(30, 10, 2).unbind(1)[0].tolist()}) > 3, "at random"


def test_batches_of_a_cycle_are_always_the_same() -> None:
    plan = cyclic(images=12, classes=2, batch=4, n_steps=5, strategy="none", generator=stream(0, "plan"))
    assert plan.indices[:3].tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert torch.equal(plan.indices[3:], plan.indices[:2])
    later = cyclic(images=12, classes=2, batch=4, n_steps=2, strategy="none", generator=stream(1, "plan"), first=4)
    assert torch.equal(later.indices, plan.indices[[1, 2]])
