"""What an objective remembers goes on with the set: saved, resumed, and unmoved where an update is not made."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from attcli.errors import UserError
from attcli.objectives import NOTHING, Memory, Slope
from attcli.ranks import ALONE
from attcli.settings import checks
from attcli.stages import distill, inputs, pipeline
from attcli.stages.run import Run
from attcli.stages.spans import Spans
from attcli.stages.update import Updates
from attcli.store import artefact, experts, states

FACTS = {"expert": -1, "start_epoch": -1, "step": 0, "l1": np.zeros(0, np.float32), "l2": np.zeros(0, np.float32)}


class Counting:
    """An objective whose gradient is how often it was asked; `losses` are those of its iterations, from 1."""

    step_functions = None
    losses: dict[int, float]

    def __init__(self, **losses: float) -> None:
        self.losses = {int(name.removeprefix("at_")): loss for name, loss in losses.items()}

    def ahead(self, iteration: int, span: int) -> int:
        return iteration

    def slope(self, images: Tensor, labels: Tensor, lr: Tensor, drawn: int, memory: Memory = NOTHING) -> Slope:
        count = memory.get("count", torch.zeros(())) + 1
        loss = torch.tensor(self.losses.get(drawn, 1.0))
        kept = {"count": torch.tensor(float("nan")) if drawn == 99 else count}
        return Slope(loss, count * torch.ones_like(images), None, torch.zeros_like(lr), labels, FACTS, kept)


@pytest.fixture
def begun(make_run: Callable[..., Run]) -> tuple[distill.Loop, states.State, Run]:
    """A loop that counts its iterations, and rejects a loss above 5."""
    run = make_run(distill__objective="real-loss", distill__max_loss=5.0)
    pipeline.prepare(run)
    loop, state = distill.begin(run, inputs.read_dataset(run), experts.Experts([]))
    counting = Counting(at_2=9.0, at_3=float("nan"))
    matching = run.settings.distill.model_copy(update={"objective": "trajectory"})  # only a matching loss is limited
    changes = {"objective": counting, "spans": Spans(counting, 1, ALONE), "updates": Updates(matching, loop.coding)}
    return replace(loop, **changes), state, run


@pytest.mark.cpu
def test_an_update_that_is_not_made_leaves_it_as_it_was(begun: tuple[distill.Loop, states.State, Run]) -> None:
    loop, state, _ = begun
    counts = []
    for _ in range(5):  # of which one is rejected, and one is not finite
        state, _ = loop.iterate(state, loop.spans.ahead(state.iteration))
        counts.append(float(state.memory["count"]))
    assert counts == [1, 2, 2, 2, 3]
    state, records = loop.iterate(replace(state, iteration=99), [99])
    assert (float(state.memory["count"]), records[0].accepted) == (3, 0)


@pytest.mark.cpu
def test_a_saved_state_goes_on_with_it(begun: tuple[distill.Loop, states.State, Run], tmp_path: Path) -> None:
    loop, state, run = begun
    data = inputs.read_dataset(run)
    header = distill._header(run.settings, data, "0" * 16, {})
    states.write(tmp_path / "first.h5", header, state)
    assert not [name for name in artefact.read(tmp_path / "first.h5", states.KIND, "")[1] if "memory" in name]
    for _ in range(2):
        state, _ = loop.iterate(state, loop.spans.ahead(state.iteration))
    states.write(tmp_path / "later.h5", header, state)
    again = states.read(tmp_path / "later.h5", data.normaliser)
    assert again.memory.keys() == {"count"}
    state, again = (loop.iterate(s, loop.spans.ahead(4))[0] for s in (state, again))
    assert torch.equal(state.learned["images"], again.learned["images"])
    assert float(again.memory["count"]) == 3


def test_an_objective_that_remembers_sees_one_span(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attcli.objectives import real_loss

    settings = make_run(distill__objective="real-loss", distill__spans=2).settings
    monkeypatch.setattr(real_loss, "remembers", lambda distill: distill.spans < 9, raising=False)
    with pytest.raises(UserError, match=r"distill.spans 2: the objective real-loss goes on .* set distill.spans=1"):
        checks.check(settings)
