"""Normalising each image by its own mean and length before whitening."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from attcli.data import normalise
from attcli.errors import UserError
from attcli.interchange import ddranking, packing
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import synthetic

SHARE = 0.1


def test_images_are_what_the_formula_says() -> None:
    x = torch.rand(60, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0] = 0.3  # of a single colour
    ours = normalise.fit("contrast", x.float(), SHARE)

    flat = x.flatten(1).numpy()
    centred = flat - flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, lengths, where=lengths > 1e-9, out=np.zeros_like(centred))
    values, vectors = np.linalg.eigh(np.cov(unit.T))
    eps = SHARE * values.mean()
    white = (unit - unit.mean(axis=0)) @ vectors @ np.diag((values + eps) ** -0.5) @ vectors.T
    assert np.allclose(ours.forward(x).flatten(1), white, atol=1e-4)
    assert ours.eps == pytest.approx(eps, rel=1e-4)
    average = unit * lengths.mean() + flat.mean()
    assert np.allclose(ours.inverse(ours.forward(x)).flatten(1), average, atol=1e-4)


def test_a_set_is_distilled_kept_and_scored_with_it(make_run: Callable[..., Run]) -> None:
    run = make_run(
        prepare__normalise="contrast",
        distill__method="real-loss+multiformation",
        distill__iterations=2,
        distill__syn_steps=2,
        distill__real_batch=50,
        evaluate__repeats=1,
        evaluate__epochs=2,
    )
    scores = pipeline.evaluate(run)["scores"]["convnet"]
    assert {"synthetic", "random", "random-kept", "random-webp"} <= scores.keys()
    kept = synthetic.read(run.synthetic)
    assert kept.normaliser is not None
    assert kept.normaliser.kind == "contrast"
    whole = packing.whole_in(run.synthetic)
    assert "average brightness and contrast" in packing.of_pictures(whole, "synthetic")[0]
    with pytest.raises(UserError, match="DD-Ranking can't normalise images"):
        ddranking.files(run.synthetic.parent, whole)
