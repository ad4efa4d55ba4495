"""PAD's curriculum: which images an epoch takes, and that it is trained on those alone."""

import pytest
import torch

from attcli import runtime
from attcli.scoring.difficulty import easiest_first
from attcli.trainers.curriculum import Curriculum
from attcli.trainers.training import Optimiser, train_epoch
from tests.matching.cases import CLASSES, case


@pytest.mark.parametrize("n", [500, 5000])  # the released code knows only the latter
def test_the_schedule_is_that_of_the_paper_in_shares_of_a_class(n: int) -> None:
    curriculum = Curriculum([torch.arange(n), torch.arange(n, 2 * n)], start=0.75, growth=20)
    spans = {epoch: curriculum.epoch(epoch) for epoch in (0, 10, 20, 21, 40, 41, 60, 61, 99)}
    shares = {0: (0, 0.75), 10: (0, 0.875), 20: (0, 1), 21: (0, 1), 40: (0, 1), 41: (0.1, 1), 60: (0.1, 1)}
    shares |= {61: (0.2, 1), 99: (0.2, 1)}
    for epoch, (first, end) in shares.items():
        of_first = torch.arange(int(first * n), int(end * n))
        assert torch.equal(spans[epoch], torch.cat([of_first, n + of_first]))
        assert curriculum.count(epoch) == len(spans[epoch])
    assert Curriculum([torch.arange(3)], start=0.1, growth=5).epoch(0).tolist() == [0]
    assert Curriculum([torch.arange(3)], start=0.1, growth=0).count(0) == 3


def test_images_are_sorted_within_their_classes() -> None:
    scores, labels = torch.tensor([5.0, 1.0, 3.0, 3.0, 0.0]), torch.tensor([0, 0, 1, 1, 1])
    assert [indices.tolist() for indices in easiest_first(scores, labels, 2)] == [[1, 0], [4, 2, 3]]


def test_a_pass_over_some_images_is_one_over_a_set_of_these() -> None:
    found, among = case(4), torch.tensor([7, 2, 9, 0, 4])
    trained = []
    for images, labels, of in (
        (found.images, found.labels, among),
        (found.images[among], found.labels[among], None),
    ):
        theta, generator = found.start.clone(), runtime.stream(0, "pass")
        optimiser = Optimiser(0.1, 0.9, 0.0)
        measured = train_epoch(
            found.student,
            theta,
            optimiser,
            images,
            labels,
            classes=CLASSES,
            batch=2,
            strategy="crop_flip",
            generator=generator,
            among=of,
        )
        trained.append((theta, measured))
    assert torch.equal(trained[0][0], trained[1][0])
    assert torch.equal(trained[0][1], trained[1][1])
    assert not torch.equal(trained[0][0], found.start)
