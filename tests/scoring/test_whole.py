"""What is counted in trainings: forgetting, features, confusion."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from attcli.errors import UserError
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring.forgetting import Presentations
from attcli.scoring.protocol import Protocol
from attcli.scoring.summary import as_json, summary, with_classes
from attcli.scoring.testing import accuracy, confusion, features
from attcli.scoring.training import fresh, train

CPU = torch.device("cpu")
ARCHITECTURE = Architecture("mlp", 1, 3, 4, {})


def test_forgetting_counts_changes_from_right_to_wrong() -> None:
    sequences = {
        0: (1, 1, 1, 1, 1),  # learned at once, never forgotten
        1: (0, 0, 0, 0, 0),  # never learned: as often as there were epochs
        2: (0, 1, 0, 1, 0),  # forgotten twice
        3: (1, 0, 0, 0, 1),  # once
        4: (0, 0, 1, 1, 1),  # learned late, never forgotten
    }
    presentations = Presentations.of(5, CPU)
    for epoch in range(5):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(2):
            presentations.met(batch, torch.tensor([bool(sequences[i][epoch]) for i in batch.tolist()]))
    assert presentations.counts().tolist() == [0, 5, 2, 1, 0]


def trained(met=None) -> torch.Tensor:
    """A short training on seven images in batches of three, so that each pass ends with a short one."""
    images = torch.randn(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, key = torch.arange(7) % 3, (0, "x", 0)
    protocol = Protocol("exact", 5, 3, 0.9, 0.0, "crop")
    student = Student.of(ARCHITECTURE.build())
    return train(student, fresh(ARCHITECTURE, key), images, labels, 3, 0.1, protocol, key, lambda: False, met)


def test_a_training_tells_of_every_image_once_in_each_pass_and_is_not_changed_by_it() -> None:
    batches: list[tuple[torch.Tensor, torch.Tensor]] = []
    observed = trained(lambda index, correct: batches.append((index.clone(), correct.clone())))
    assert torch.equal(observed, trained())
    assert [len(index) for index, _ in batches] == [3, 3, 1] * 5
    for first in range(0, 15, 3):
        assert sorted(torch.cat([index for index, _ in batches[first : first + 3]]).tolist()) == list(range(7))
    shares = torch.stack([correct.float().mean() for _, correct in batches])
    assert 0 < float(shares.mean()) < 1


def test_confusion_has_a_row_for_each_true_class() -> None:
    module = ARCHITECTURE.build()
    student, theta = Student.of(module), vector(module)
    images = torch.randn(41, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(41) % 3
    answers = module(images).argmax(dim=1)
    counts = confusion(student, theta, images, labels, 3)
    wanted = np.zeros((3, 3), dtype=int)
    for true, answer in zip(labels.tolist(), answers.tolist(), strict=True):
        wanted[true][answer] += 1
    assert counts.tolist() == wanted.tolist()
    assert 100 * int(counts.trace()) / int(counts.sum()) == accuracy(student, theta, images, labels)


def test_features_are_what_the_last_layer_takes_in() -> None:
    architecture = Architecture("convnet", 1, 10, 8, {"width": 4, "depth": 2})
    module = architecture.build()
    images = torch.randn(23, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    seen = features(Student.of(module), vector(module), images, 10)
    assert seen.dtype == torch.float64
    assert torch.allclose(seen, module[:-1](images).flatten(1).double(), atol=1e-5)
    assert not module[-1]._forward_pre_hooks


def test_a_network_without_a_last_linear_layer_is_refused() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten())
    with pytest.raises(UserError, match="does not end in a linear layer"):
        features(Student.of(module), vector(module), torch.zeros(2, 1, 4, 4), 3)


def test_summaries_of_confusion() -> None:
    first = {"accuracy": 50.0, "confusion": [[1, 1, 0], [1, 1, 0], [0, 0, 0]]}
    second = {"accuracy": 75.0, "confusion": [[2, 0, 0], [1, 1, 0], [0, 0, 0]]}
    entry = with_classes([first, second])
    assert entry["confusion"] == [[3, 1, 0], [2, 2, 0], [0, 0, 0]]
    assert entry["per_class"] == [75.0, 50.0, None]
    assert {name: entry[name] for name in ("mean", "sd", "n", "accuracies")} == summary([50.0, 75.0])
    of_old = with_classes([{"accuracy": 50.0}, second])
    assert (of_old["mean"], of_old["per_class"], of_old["confusion"]) == (62.5, None, None)


def test_rows_of_numbers_stand_on_one_line() -> None:
    text = as_json({"classes": ["a", "b"], "confusion": [[1, 20], [3, 4]], "per_class": [1.5, None], "mean": 2.0})
    assert "    [1, 20],\n    [3, 4]\n" in text
    assert '"per_class": [1.5, null]' in text


def test_names_of_classes_keep_their_blanks() -> None:
    report = {"classes": ["[ a  b ]", "c"], "n": [1, 2]}
    assert json.loads(as_json(report)) == report
