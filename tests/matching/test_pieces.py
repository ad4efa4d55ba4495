"""Selection, windows, plans, layouts."""

import pytest
import torch

from attcli.matching import select, window
from attcli.matching.balanced import balanced
from attcli.matching.batches import pack, plan, probabilities, unpack
from attcli.matching.parameters import Layout, vector
from attcli.networks import Architecture
from attcli.runtime import stream

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("l1", "k"),
    [
        ([3.0, 1.0, 2.0], 2),
        ([1.0, 1.0, 2.0], 2),  # a tie goes to the later step
        ([NAN, 5.0, 6.0], 2),
        ([4.0, NAN, INF], 1),
        ([NAN, NAN, INF], 3),  # nothing finite: the last step
        ([99999.0, 99998.0, 99999.0], 2),  # no sentinel that large distances fall behind
    ],
)
def test_nearest_step(l1: list[float], k: int) -> None:
    assert select.nearest(torch.tensor([l1, [1.0, 2.0, 3.0]]), "l1") == k


def test_metrics_are_told_apart() -> None:
    distances = torch.tensor([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    assert select.nearest(distances, "l1") == 2
    assert select.nearest(distances, "l2") == 1
    assert select.last(distances) == 3


def test_patience_is_over_after_so_many_steps_in_a_row_that_are_farther_than_the_nearest() -> None:
    rows = ([3.0, 2.0, 2.5, 2.4, 1.0], [2.0, 2.0, 3.0, 3.0], [NAN, NAN, NAN], [1.0, NAN, INF, 0.5])

    def ended(row: list[float], patience: int) -> int | None:
        so_far = (torch.tensor([row[:n], [0.0] * n]) for n in range(1, len(row) + 1))
        return next((d.shape[1] for d in so_far if select.without_hope(d, "l1", patience)), None)

    assert [ended(rows[0], patience) for patience in (1, 2, 3)] == [3, 4, None]
    assert ended(rows[1], 2) == 4  # a step that is as near as the nearest begins the count anew
    assert ended(rows[2], 1) is None  # nothing is near or far
    assert [ended(rows[3], patience) for patience in (2, 3)] == [3, None]


def test_every_pass_of_a_plan_is_a_permutation_with_a_short_last_batch() -> None:
    drawn = plan(images=7, batch=3, n_steps=8, strategy="none", generator=stream(0, "x"))
    assert drawn.indices.shape == (8, 3)
    for begin in (0, 3):
        kept = drawn.weights[begin : begin + 3] > 0
        assert sorted(drawn.indices[begin : begin + 3][kept].tolist()) == list(range(7))
    assert kept.sum(dim=1).tolist() == [3, 3, 1]
    assert torch.allclose(drawn.weights.sum(dim=1), torch.ones(8).double())
    assert drawn.indices[0].tolist() != drawn.indices[3].tolist()


def test_a_students_short_batch_comes_first_in_every_pass() -> None:
    drawn = plan(images=7, batch=3, n_steps=6, strategy="none", generator=stream(0, "x"), short_first=True)
    kept = drawn.weights > 0
    assert kept.sum(dim=1).tolist() == [1, 3, 3] * 2
    for begin in (0, 3):
        assert sorted(drawn.indices[begin : begin + 3][kept[begin : begin + 3]].tolist()) == list(range(7))
    assert torch.allclose(drawn.weights.sum(dim=1), torch.ones(6).double())
    whole = (plan(6, 3, 4, "none", stream(0, "x"), short_first=first) for first in (False, True))
    assert len({tuple(found.indices.flatten().tolist()) for found in whole}) == 1


def test_weights_are_exact_in_float64_and_rounded_once_in_float32() -> None:
    plans = [plan(7, 3, 3, "none", stream(0, "x")), plan(7, 6, 3, "none", stream(0, "x"), mirrors="pairs")]
    plans.append(balanced(12, 3, 3, 4, "none", stream(0, "x")))
    found = {weight for drawn in plans for weight in drawn.weights.flatten().tolist()}
    assert found == {0, 1 / 6, 1 / 3, 1 / 2, 1}
    for drawn in plans:
        for row in drawn.weights:
            count = int(row.count_nonzero())
            assert torch.equal(row[row > 0].float(), torch.full((count,), 1 / count, dtype=torch.float32))


def test_a_batch_larger_than_the_set_is_the_set() -> None:
    assert plan(4, 100, 2, "none", stream(0, "x")).indices.shape == (2, 4)


def test_probabilities() -> None:
    assert probabilities(torch.tensor([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.allclose(probabilities(logits, 3), logits.softmax(1))


def test_layout_round_trip() -> None:
    module = Architecture("convnet", 3, 10, 8, {"width": 4, "depth": 2}).build()
    layout, theta = Layout.of(module), vector(module)
    assert theta.numel() == layout.size
    named = layout.unflatten(theta)
    for name, parameter in module.named_parameters():
        assert torch.equal(named[name], parameter)
    assert torch.equal(layout.flatten(named), theta)


def test_windows() -> None:
    assert window.fixed(window.StartEpochs(3, 9, current=5, expansion_end=100), 7) == (3, 9)
    # DATM's CIFAR-10 setting for ten images per class: from 10 to 20 within 1,000 iterations.
    bounds = window.StartEpochs(0, 20, current=10, expansion_end=1000)
    ends = [window.expanding(bounds, iteration)[1] for iteration in (0, 99, 100, 550, 999, 1000, 5000)]
    assert ends == [10, 10, 11, 15, 19, 20, 20]


@pytest.mark.parametrize("strategy", ["crop_scale", "none"])
def test_draws_packed_into_one_copy_are_the_same(strategy: str) -> None:
    drawn = plan(7, 3, 5, strategy, stream(0, "a"))
    parts = (drawn.indices, drawn.weights, drawn.augmentations.uniform)
    packed = pack(parts)
    assert packed.dtype == torch.uint8
    for before, after in zip(parts, unpack(packed.clone(), parts), strict=True):
        assert before.dtype == after.dtype
        assert torch.equal(before, after)
