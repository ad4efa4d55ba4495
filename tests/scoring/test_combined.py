"""SelMatch's combined augmentation: what real and distilled images become, and which of a set's are real."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from attcli.runtime import stream
from attcli.scoring import combined as module
from attcli.scoring.combined import Combined
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import dataset


def test_real_images_are_shifted_and_mirrored_and_others_are_not() -> None:
    images = torch.randn(2, 1, 8, 8)
    combined = Combined(images, torch.tensor([True, False]), "cutout", stream(0, "combined"))
    padded = F.pad(images[0], (4, 4, 4, 4))
    windows = {padded[:, i : i + 8, j : j + 8].numpy().tobytes() for i in range(9) for j in range(9)}
    flipped = F.pad(images[0].flip(2), (4, 4, 4, 4))
    mirrored = {flipped[:, i : i + 8, j : j + 8].numpy().tobytes() for i in range(9) for j in range(9)}
    seen = combined[torch.tensor([0, 1] * 300)]
    of_real = [(x + 0.0).numpy().tobytes() for x in seen[0::2]]  # no zero is negative
    assert set(of_real) <= windows | mirrored
    assert len({*of_real}) > 120  # of 162
    assert 0.4 < sum(x in mirrored for x in of_real) / 300 < 0.6
    cut = seen[1::2]
    assert ((cut == images[1]) | (cut == 0)).all()
    assert (cut == 0).any(dim=3).any(dim=2).any(dim=1).float().mean() > 0.9


def test_each_distilled_image_has_an_operation_of_its_own() -> None:
    images = torch.randn(1, 1, 8, 8)
    combined = Combined(images, torch.tensor([False]), "flip_cutout", stream(0, "combined"))
    seen = combined[torch.zeros(400, dtype=torch.long)]
    same, flipped = ((seen == x).all(dim=(1, 2, 3)).float().mean() for x in (images, images.flip(3)))
    cut = (seen == 0).flatten(1).any(dim=1).float().mean()
    assert [float(share) for share in (same, flipped, cut)] == pytest.approx([0.25, 0.25, 0.5], abs=0.1)
    assert torch.equal(images, combined.images)
    plain = Combined(images, torch.tensor([False]), "none", stream(0, "combined"))
    assert torch.equal(plain[torch.zeros(3, dtype=torch.long)], images.expand(3, 1, 8, 8))


def test_a_set_says_which_of_its_images_are_real(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def noted(images: torch.Tensor, real: torch.Tensor, *how: object) -> Combined:
        made.append(real.tolist())
        return Combined(images, real, *how)

    monkeypatch.setattr(module, "Combined", noted)
    part: dict[str, object] = {"distill__ipc": 2, "distill__distilled_share": 0.5, "distill__iterations": 1}
    scored: dict[str, object] = {"evaluate__protocol": "selmatch", "evaluate__epochs": 1, "evaluate__repeats": 1}
    run = make_run(**part, **scored, evaluate__baselines="random,whole", evaluate__whole_epochs=1)
    report = pipeline.evaluate(run)
    assert report["protocol"]["combined"]
    assert report["protocol"]["lr"] == 0.1
    assert [True, False] * 10 in made  # the set and its moving average
    assert [True] * 20 in made  # random real images
    assert [True] * len(dataset.read(run.dataset).labels["train"]) in made  # all of them


def test_operations_that_follow_each_other_have_draws_of_their_own() -> None:
    x = torch.zeros(400, 1, 2, 2)
    x[:, :, :, 0] = 1
    twice = Combined(x, torch.zeros(400, dtype=torch.bool), "flip+flip", stream(0, "combined"))
    seen = twice[torch.arange(400)]
    as_they_were = float((seen[:, 0, 0, 0] == 1).double().mean())
    assert 0.4 < as_they_were < 0.6, "an image that is mirrored twice, or never, is as it was"
