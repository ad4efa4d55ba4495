"""DATM's initialisation against hand-made experts."""

import pytest
import torch
from torch import Tensor

from attcli.runtime import stream
from attcli.stages import initial

CLASSES = 3


class Data:
    """Images whose single pixel is their index."""

    def __init__(self, labels: list[int]) -> None:
        self.labels = {"train": torch.tensor(labels)}
        self.about = {"classes": ["a", "b", "c"]}

    def inputs(self, split: str, chosen: Tensor) -> Tensor:
        return chosen.float().view(-1, 1, 1, 1)


class Judges(initial._Judges):
    """Experts whose logits for each image stand in a table (experts, images, classes)."""

    def __init__(self, table: list[list[list[float]]]) -> None:
        self._table = torch.tensor(table)
        self.asked: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._table)

    def logits(self, expert: int, images: Tensor) -> Tensor:
        self.asked.append((expert, len(images)))
        return self._table[expert, images.view(-1).long()]


def one_hot(predictions: list[int]) -> list[list[float]]:
    return [[4.0 if c == p else 0.0 for c in range(CLASSES)] for p in predictions]


def test_labels_are_the_mean_of_the_experts_that_are_right() -> None:
    hard = torch.tensor([0, 1, 2])
    judges = Judges(
        [
            [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [5.0, 1.0, 0.0]],
            [[5.0, 0.0, 2.0], [3.0, 2.0, 1.0], [1.0, 4.0, 2.0]],
        ]
    )
    found = judges.soft_labels(torch.arange(3.0).view(3, 1, 1, 1), hard)
    assert found[0].tolist() == [4.0, 0.5, 1.0]  # both are right
    assert found[1].tolist() == [0.0, 2.0, 1.0]  # the first alone
    # None is right: the mean is (3, 2.5, 1), and its largest value goes to the true class.
    assert found[2].tolist() == [1.0, 2.5, 3.0]
    assert found.isfinite().all()


def test_images_are_those_that_an_expert_gets_right() -> None:
    data = Data([0, 0, 0, 1, 1, 1, 2, 2, 2])
    judges = Judges([one_hot([0, 1, 0, 1, 2, 0, 2, 2, 0]), one_hot([0, 0, 0, 0, 1, 2, 1, 2, 2])])
    chosen = initial._correct(data, judges, 2, stream(0, "a")).view(CLASSES, 2)
    assert set(chosen[0].tolist()) == {0, 2}  # the first expert gets these two right
    assert chosen[1].tolist() == [3, 4]  # 3 by the first expert, then 4 by the second
    assert set(chosen[2].tolist()) == {6, 7}


def test_a_class_with_too_few_correct_images_is_filled_up() -> None:
    data = Data([0, 0, 1, 1, 2, 2])
    judges = Judges([one_hot([1, 1, 1, 2, 2, 2])] * 2)
    chosen = initial._correct(data, judges, 2, stream(0, "a")).view(CLASSES, 2)
    assert set(chosen[0].tolist()) == {0, 1}
    assert chosen[1].tolist() == [2, 3]
    assert set(chosen[2].tolist()) == {4, 5}
    assert len(judges.asked) == 5  # both experts for classes 0 and 1; the first one has class 2 right


def test_a_class_with_too_few_images_is_refused() -> None:
    with pytest.raises(ValueError, match="class 0 has 1 images, fewer than 2"):
        initial._correct(Data([0, 1, 1, 2, 2]), Judges([one_hot([0, 1, 1, 2, 2])]), 2, stream(0, "a"))
