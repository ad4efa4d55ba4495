"""Network inputs: held, or read and normalised batch by batch; both are the same."""

from collections.abc import Callable

import h5py
import numpy as np
import pytest
import torch

from attcli.data import inputs, normalise
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import dataset, experts

IMAGES = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["standardise", "zca"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_are_the_same_held_or_read(kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    normaliser = normalise.fit(kind, IMAGES.float() / 255, 0.1)
    held = inputs.inputs_of(IMAGES, 1 / 255, normaliser, CPU, dtype)
    assert isinstance(held, torch.Tensor)
    monkeypatch.setattr(inputs, "READY_BYTES", 0)
    read = inputs.inputs_of(IMAGES, 1 / 255, normaliser, CPU, dtype)
    assert isinstance(read, inputs.NetworkInputs)
    assert len(read) == 40
    assert read.shape == held.shape
    index = torch.tensor([5, 5, 39, 0])
    assert read[index].dtype == dtype
    assert torch.allclose(read[index], held[index], atol=1e-6)
    assert kind == "zca" or torch.equal(read[index], held[index])
    for a, b in zip(inputs.in_batches(read, 7), inputs.in_batches(held, 7), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_experts_and_scores_are_the_same_read_from_the_file(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, accuracies = [], []
    for name in ("held", "in memory", "in the file"):
        run = make_run(make_run().settings.runtime.artifacts.parent / name, buffer__experts=1, evaluate__repeats=1)
        if name != "held":
            monkeypatch.setattr(inputs, "READY_BYTES", 0)
        if name == "in the file":
            monkeypatch.setattr("attcli.runtime.free_memory", lambda: 0)
            monkeypatch.setattr(dataset, "LARGE", 0)
        accuracies.append(pipeline.evaluate(run)["scores"])
        with h5py.File(experts.path(run.experts, 0)) as file:
            rows.append(file["parameters"][()])
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[0], rows[2])
    assert accuracies[0] == accuracies[1] == accuracies[2]


@pytest.mark.parametrize(
    ("shape", "most", "size"),
    [((3, 32, 32), 1000, 1000), ((3, 128, 128), 1000, 250), ((3, 256, 256), 250, 62), ((3, 9000, 9000), 9, 1)],
)
def test_of_large_images_fewer_are_looked_at_at_a_time(shape: tuple[int, ...], most: int, size: int) -> None:
    assert inputs.at_a_time(torch.empty(2, *shape, device="meta"), most) == size


def test_few_images_are_held_as_floats_and_many_as_bytes() -> None:
    assert inputs.held_bytes((50_000, 3, 32, 32)) == 4 * 50_000 * 3072  # CIFAR-10
    assert inputs.held_bytes((100_000, 3, 64, 64)) == 100_000 * 12_288  # Tiny ImageNet
