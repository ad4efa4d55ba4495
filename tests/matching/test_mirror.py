"""Mirror images in the student's batches: the draws, and the gradient against the plain graph."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from attcli.matching import engine, mirror
from attcli.matching.batches import Plan, plan, sizes
from attcli.runtime import stream
from tests.matching.cases import DSA, IMAGES, STEPS, case
from tests.matching.oracle import tesla, unroll
from tests.matching.test_engines import assert_exact

RULES = [rule for rule in mirror.RULES if rule != "none"]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def drawn(rule: str, batch: int = 5) -> Plan:
    made = plan(IMAGES, batch, STEPS, DSA, stream(0, "plan"), short_first=True, mirrors=rule)
    exact = replace(made.augmentations, uniform=made.augmentations.uniform.double())
    return replace(made, weights=made.weights.double(), augmentations=exact)


@pytest.mark.parametrize("rule", RULES)
def test_flip_is_no_operation_of_the_augmentation_then(rule: str) -> None:
    def operations(mirrors: str) -> set[str]:
        return {*plan(IMAGES, 5, 40, "crop_flip", stream(0, "plan"), mirrors=mirrors).augmentations.operations}

    assert operations("none") == {"crop", "flip"}
    assert operations(rule) == {"crop"}
    assert {*plan(IMAGES, 5, 4, "flip", stream(0, "plan"), mirrors=rule).augmentations.operations} == {""}
    assert drawn(rule).augmentations.uniform.shape[:2] == drawn(rule).indices.shape


def test_pairs_are_half_as_many_images_and_their_mirror_images() -> None:
    of = drawn("pairs", batch=10)  # 5 and their mirror images; the first of each pass has 2 and theirs
    assert of.mirrored is not None
    assert (of.indices.shape[1], sizes(IMAGES, 10, "pairs")) == (10, (10, 4))
    for step, count in enumerate([2, 5, 5, 2, 5, 5, 2]):
        index, mirrored = of.indices[step, : 2 * count], of.mirrored[step, : 2 * count]
        assert index[~mirrored].tolist() == index[mirrored].tolist()
        assert len(set(index.tolist())) == count
        assert torch.allclose(of.weights[step, : 2 * count], torch.tensor(1 / (2 * count)))
        assert not of.weights[step, 2 * count :].any()  # what fills a batch up comes last
    assert sizes(IMAGES, 1, "pairs") == (2, 0)


def test_random_ones_are_half_of_all() -> None:
    of = plan(1000, 1000, 4, "none", stream(0, "plan"), mirrors="random")
    assert of.mirrored is not None
    assert 0.45 < float(of.mirrored.float().mean()) < 0.55
    both = plan(1000, 1000, 4, "none", stream(0, "plan"), mirrors="both")
    assert both.mirrored is not None
    pairs = both.mirrored.view(4, 2, 500).sum(dim=1).flatten().bincount() / 2000
    assert torch.allclose(pairs, torch.tensor([0.25, 0.5, 0.25]), atol=0.05)  # each of a pair at random


@pytest.mark.parametrize("name", ["adjoint", "unroll", "tesla"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("strategy", ["none", DSA])
def test_gradients_are_those_of_the_plain_graph(name: str, rule: str, strategy: str) -> None:
    made = drawn(rule)
    if strategy == "none":
        made = replace(made, augmentations=replace(made.augmentations, operations=("",) * STEPS))
    found = replace(case(5, soft=True), plan=made)
    wanted_by = {"tesla": tesla}.get(name, unroll)
    assert_exact(found, found.student, name, 5, wanted_by=wanted_by)
    unmirrored = replace(found, plan=replace(made, mirrored=None)).batches
    lr = torch.tensor(0.1)
    engine.load(name)(found.student, found.start, found.target, unmirrored, lr, lambda distances: 5)
    mirrored = found.batches
    engine.load(name)(found.student, found.start, found.target, mirrored, lr, lambda distances: 5)
    assert not torch.allclose(unmirrored.gradients()[0], mirrored.gradients()[0])
