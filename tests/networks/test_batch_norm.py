"""The whole pipeline with a network that normalises over the batch, where no batch divides the images."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attcli.errors import UserError
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import experts, synthetic
from tests.stages.observed import logged

MakeRun = Callable[..., Run]
CHANGES = {
    "network__norm": "batch",
    "buffer__batch": 200,  # 1,247 images leave 47
    "distill__batch_syn": 7,  # ten images leave three
    "distill__iterations": 3,
    "evaluate__archs": "convnet,convnetbn",
    "evaluate__repeats": 1,
    "evaluate__batch": 6,
}


@pytest.mark.parametrize("engine", ["adjoint", "unroll"])
def test_a_set_is_distilled_and_scored(engine: str, make_run: MakeRun) -> None:
    run = make_run(**CHANGES, distill__engine=engine)
    with logged() as lines:
        report = pipeline.evaluate(run)
    assert not [line for line in lines if "diverged" in line or "not finite" in line]
    trained = experts.read(experts.path(run.experts, 0))[1]
    assert trained.accuracy[-1] > trained.accuracy[0]
    assert synthetic.read(run.synthetic).variants["synthetic"].isfinite().all()
    assert report["set"]["network"]["norm"] == "batch"
    assert set(report["scores"]) == {"convnet", "convnetbn"}


def test_both_engines_distil_the_same_set(make_run: MakeRun, tmp_path: Path) -> None:
    sets = []
    for engine in ("adjoint", "unroll"):
        exact = {"distill__precision": "float64", "distill__storage": "float64"}
        run = make_run(tmp_path / engine, **CHANGES, **exact, distill__engine=engine)
        pipeline.distill(run)
        sets.append(synthetic.read(run.synthetic).variants["synthetic"])
    assert torch.allclose(*sets, atol=1e-5)


@pytest.mark.parametrize("labels", ["learned", "teacher"])
def test_experts_with_batch_norm_judge_and_label_images(labels: str, make_run: MakeRun) -> None:
    run = make_run(**CHANGES, distill__init="correct", distill__labels=labels)
    pipeline.distill(run)
    assert synthetic.read(run.synthetic).variants["synthetic"].isfinite().all()


def test_a_batch_that_leaves_one_image_is_refused_before_training(make_run: MakeRun) -> None:
    run = make_run(**{**CHANGES, "buffer__batch": 89})  # 1,247 is 14 times 89, and one
    with pytest.raises(UserError, match="batches of 89 images leave one of a single image"):
        pipeline.buffer(run)
    assert not list(run.experts.glob("*.h5"))
