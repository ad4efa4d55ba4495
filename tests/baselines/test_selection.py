"""Each baseline's selection beside a slow one, written in numpy straight from its definition."""

import numpy as np
import pytest
import torch

from attcli import registry, runtime
from attcli.baselines import Candidates, load
from attcli.errors import UserError

CLASSES, PER_CLASS = 3, 6


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,) of classes of unequal sizes in mixed order, features (N, D) and counts (N,) with many ties."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(CLASSES), [9, 20, 31]))
    return labels, generator.standard_normal((len(labels), 5)), generator.integers(0, 4, len(labels))


def selected(name: str, seed: int, repeat: int = 0) -> np.ndarray:
    """What a baseline selects, a row for each class."""
    labels, features, counts = drawn(seed)
    candidates = Candidates(
        labels=torch.from_numpy(labels),
        per_class=PER_CLASS,
        classes=CLASSES,
        features=lambda rows: torch.from_numpy(features)[rows],
        forgotten=lambda: torch.from_numpy(counts),
    )
    select = load(name).select
    assert select is not None
    indices = select(candidates, runtime.stream(7, f"{name}-images", repeat)).numpy()
    assert (labels[indices] == np.repeat(np.arange(CLASSES), PER_CLASS)).all()
    assert len(set(indices.tolist())) == len(indices)
    return indices.reshape(CLASSES, PER_CLASS)


@pytest.mark.parametrize("seed", range(5))
def test_herding_follows_the_mean(seed: int) -> None:
    labels, features, _ = drawn(seed)
    for c, row in enumerate(selected("herding", seed)):
        mean = features[labels == c].mean(axis=0)
        picked: list[int] = []
        for k in range(1, PER_CLASS + 1):
            distances = {}
            for j in np.flatnonzero(labels == c).tolist():
                if j not in picked:
                    gap = [k * mean[d] - sum(features[i][d] for i in picked) - features[j][d] for d in range(5)]
                    distances[j] = sum(part**2 for part in gap) ** 0.5
            picked.append(min(distances, key=distances.__getitem__))
        assert row.tolist() == picked
        herded = np.linalg.norm(features[row].mean(axis=0) - mean)
        members = np.flatnonzero(labels == c)
        others = [np.random.default_rng(i).choice(members, PER_CLASS, replace=False) for i in range(200)]
        assert herded < np.mean([np.linalg.norm(features[other].mean(axis=0) - mean) for other in others])


@pytest.mark.parametrize("seed", range(5))
def test_k_center_takes_the_farthest(seed: int) -> None:
    labels, features, _ = drawn(seed)
    for c, row in enumerate(selected("k-center", seed)):
        picked = [int(row[0])]
        while len(picked) < PER_CLASS:
            left = [j for j in np.flatnonzero(labels == c).tolist() if j not in picked]
            nearest = {j: min(np.sqrt(((features[j] - features[i]) ** 2).sum()) for i in picked) for j in left}
            picked.append(max(nearest, key=nearest.__getitem__))
        assert row.tolist() == picked


def test_k_center_draws_its_first_image_anew_for_each_repeat() -> None:
    firsts = [selected("k-center", 0, repeat)[:, 0].tolist() for repeat in range(5)]
    assert len({tuple(first) for first in firsts}) > 1
    assert firsts[3] == selected("k-center", 0, 3)[:, 0].tolist()


def test_k_center_picks_no_image_twice_where_all_are_equal() -> None:
    candidates = Candidates(torch.zeros(7, dtype=torch.long), 7, 1, lambda rows: torch.ones(len(rows), 2), lambda: None)
    select = load("k-center").select
    assert select is not None
    assert sorted(select(candidates, runtime.stream(0, "x")).tolist()) == list(range(7))


@pytest.mark.parametrize("seed", range(5))
def test_forgetting_takes_the_most_forgotten(seed: int) -> None:
    labels, _, counts = drawn(seed)
    chance = []
    for repeat in range(3):
        rows = selected("forgetting", seed, repeat)
        chance.append(rows.tolist())
        for c, row in enumerate(rows):
            assert sorted(counts[row].tolist(), reverse=True) == counts[row].tolist()
            assert counts[row].tolist() == sorted(counts[labels == c].tolist(), reverse=True)[:PER_CLASS]
    assert chance[0] != chance[1]  # counts have many ties, which the repeat's own draw decides


def test_random_images_are_the_repeats_own() -> None:
    assert selected("random", 0, 0).tolist() != selected("random", 0, 1).tolist()
    assert selected("random", 0, 1).tolist() == selected("random", 0, 1).tolist()


def test_baselines_are_choices_found_by_name() -> None:
    names = {"forgetting", "herding", "k-center", "random", "random-kept", "random-webp", "whole"}
    assert set(registry.names("baseline")) == names
    assert load("whole").select is None
    with pytest.raises(UserError, match="unknown baseline 'k-centre'; did you mean 'k-center'"):
        load("k-centre")
