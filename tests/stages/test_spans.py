"""An iteration is the mean over its spans, and the history keeps each of them."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from attcli.objectives import NOTHING, Memory, Slope
from attcli.ranks import ALONE
from attcli.records import cost
from attcli.records.results import Results
from attcli.stages import diagnose, pipeline
from attcli.stages.run import Run
from attcli.stages.spans import Spans
from attcli.store import artefact, history, synthetic

SUMMED = {"loss", "images", "logits", "lr"}
IMAGES = torch.arange(12.0, dtype=torch.float64).view(2, 1, 2, 3)


class Recorded:
    """An objective whose slope follows from the iteration and the span."""

    step_functions = None

    def ahead(self, iteration: int, span: int) -> tuple[int, int]:
        return iteration, span

    def slope(
        self, images: Tensor, labels: Tensor, lr: Tensor, drawn: tuple[int, int], memory: Memory = NOTHING
    ) -> Slope:
        iteration, span = drawn
        size = torch.tensor(10.0 * iteration + span, dtype=torch.float64)
        return Slope(size, images * size, labels * size, lr * size, labels + span, {"step": span})


def test_the_gradient_is_the_mean_over_the_spans() -> None:
    spans = Spans(Recorded(), 3, ALONE)
    labels, lr = torch.ones(2, 4, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    slope, facts = spans.slope(IMAGES, labels, lr, spans.ahead(2))
    assert facts == [{"step": span, "loss": 20.0 + span} for span in range(3)]
    assert slope.loss == 21
    assert torch.equal(slope.images, IMAGES * 21)
    assert torch.equal(slope.logits, labels * 21)
    assert slope.lr == lr * 21
    assert torch.equal(slope.labels, labels)  # the first span's
    assert {field.name for field in fields(Slope)} == {*SUMMED, "labels", "facts", "memory"}


@pytest.fixture
def distilled(make_run: Callable[..., Run]) -> Run:
    """Six iterations of two spans."""
    run = make_run(distill__spans=2)
    pipeline.distill(run)
    return run


def test_the_history_has_a_row_for_each_span(distilled: Run) -> None:
    _, arrays = artefact.read(distilled.history, history.KIND, history.MAKER)
    assert arrays["iteration"].tolist() == [i for i in range(6) for _ in range(2)]
    assert arrays["span"].tolist() == [0, 1] * 6
    assert history.spans(arrays) == 2
    assert len({*zip(arrays["expert"], arrays["start_epoch"], arrays["loss"], strict=True)}) > 6  # each its own draws
    rows = distilled.history.with_suffix(".csv").read_text().splitlines()
    assert rows[0].endswith(",span")
    assert len(rows) == 13
    told = history.by_iteration(arrays)
    assert told["iteration"].tolist() == list(range(6))
    assert np.allclose(told["loss"], arrays["loss"].reshape(6, 2).mean(axis=1))
    assert np.allclose(told["seconds"], arrays["seconds"].reshape(6, 2).sum(axis=1))


def test_what_reads_the_history_counts_iterations(distilled: Run) -> None:
    diagnosis = diagnose.read(distilled.history, None, [2], every=4)
    assert diagnosis.mismatches["first_iteration"].tolist() == [0, 4]
    assert diagnosis.mismatches["iterations"].tolist() == [4, 2]
    assert {"iteration_0", "iteration_5"} <= diagnosis.distances.keys()
    header, arrays = artefact.read(distilled.synthetic, synthetic.KIND, synthetic.MAKER)
    results = Results(distilled.synthetic.parent, [], header, arrays)
    told = cost.students(results)
    assert told is not None
    assert told.images_forward == 6 * 2 * 5 * 10
    assert told.images_adjoint is not None


def test_spans_are_part_of_what_a_set_is(make_run: Callable[..., Run]) -> None:
    one = make_run()
    pipeline.distill(one)
    header, _ = artefact.read(one.synthetic, synthetic.KIND, synthetic.MAKER)
    assert "spans" not in header.settings["distill"]  # so that sets of before are still found
    several = make_run(distill__spans=2, force=True)
    pipeline.distill(several)
    assert artefact.header(several.synthetic, synthetic.KIND, synthetic.MAKER).settings["distill"]["spans"] == 2
