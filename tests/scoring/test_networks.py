"""Step functions that trainings on sets of several sizes share."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from attcli.networks import Architecture
from attcli.runtime import stream
from attcli.scoring import networks as scoring_networks
from attcli.scoring.networks import Networks
from attcli.scoring.protocol import Protocol
from attcli.scoring.whole import Trained, Whole
from attcli.settings import Runtime

PROTOCOL = Protocol(epochs=4, batch=7, augment="none")


def test_batch_norm_leaves_out_what_fills_a_short_batch_whichever_set_came_first() -> None:
    """A set of seven fills its batches, one of ten does not: both are trained as if they were alone."""
    images = torch.randn((10, 1, 8, 8), generator=stream(0, "short"))
    labels = torch.arange(10)
    architecture = Architecture("convnet", 1, 10, 8, {"width": 4, "depth": 2, "norm": "batch"})
    trained = []
    for sizes in ((7, 10), (10,)):
        networks = Networks(torch.device("cpu"), "float32", Runtime())
        for size in sizes:
            networks.prepare(architecture, images[:size], PROTOCOL.batch, 1)
        theta = networks.trained(architecture, images, labels, 0.01, PROTOCOL, (0, "evaluate", 0), lambda: False)
        trained.append(theta)
    assert torch.equal(*trained)


def test_step_functions_are_made_for_each_size_of_a_batch() -> None:
    images = torch.randn((10, 1, 8, 8), generator=stream(0, "sizes"))
    architecture = Architecture("convnet", 1, 10, 8, {"width": 4, "depth": 2})
    networks = Networks(torch.device("cpu"), "float32", Runtime())
    for size in (3, 10, 7, 9):
        networks.prepare(architecture, images[:size], PROTOCOL.batch, 1)
    assert [batch for _, batch in networks._step_functions] == [3, 7]


@pytest.mark.parametrize(("devices", "kept"), [((), ["convnet", "mlp"]), (("cpu",), ["mlp"])])
def test_on_a_gpu_those_of_one_architecture_are_kept(
    devices: tuple[str, ...], kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring_networks, "ONE_AT_A_TIME", devices)
    images = torch.randn((10, 1, 8, 8), generator=stream(0, "sizes"))
    networks = Networks(torch.device("cpu"), "float32", Runtime())
    for architecture in (
        Architecture("convnet", 1, 10, 8, {"width": 4, "depth": 2}),
        Architecture("mlp", 1, 10, 8, {}),
    ):
        for size in (3, 10):
            networks.prepare(architecture, images[:size], PROTOCOL.batch, 1)
    assert list(dict.fromkeys(architecture.name for architecture, _ in networks._step_functions)) == kept


def test_counts_of_several_trainings_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(self: Whole, architecture: Any, repeat: int) -> Trained:
        return Trained(torch.zeros(1), torch.tensor([1, 10, 100]) * (repeat + 1))

    monkeypatch.setattr(Whole, "kept", kept)
    real, nothing = cast(Any, SimpleNamespace(train_labels=torch.zeros(3))), cast(Any, None)
    whole = Whole(real, nothing, nothing, 0.1, 0, Path())
    assert whole.forgotten(nothing, 2).tolist() == [3, 30, 300]
