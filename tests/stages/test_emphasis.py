"""Emphasis: which gradients are weighted, and that a distillation that is resumed goes on with the same weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attcli.errors import UserError
from attcli.matching import cam
from attcli.stages import distill, inputs, pipeline
from attcli.stages.emphasis import SINCE, WEIGHTS
from attcli.stages.run import Run
from attcli.store import artefact, states, synthetic
from attcli.store.experts import Experts

LOOKING: dict[str, object] = {"distill__emphasis": "cam", "distill__emphasis_every": 4, "distill__syn_steps": 3}


def begun(run: Run) -> tuple[distill.Loop, states.State]:
    data = inputs.read_dataset(run)
    return distill.begin(run, data, inputs.open_experts(run, data))


@pytest.mark.parametrize("more", [{}, {"distill__spans": 2, "distill__labels": "learned"}])
def test_the_gradient_in_the_images_alone_is_weighted(make_run: Callable[..., Run], more: dict[str, object]) -> None:
    run = make_run(**LOOKING, **more)
    pipeline.buffer(run)
    loop, state = begun(run)
    images, drawn = loop.coding.images(state.coded(), state.scales), loop.spans.ahead(0)
    labels = states.labels_as_kept(loop.coding, state)
    slope, _ = loop.spans.slope(images, labels, state.lr, drawn)
    after, _ = loop.iterate(state, drawn)
    weights = after.memory[WEIGHTS]
    assert weights.shape == (10, 8, 8)
    assert float(weights.min()) == 1
    assert 1 < float(weights.max()) <= 2
    moved = state.learned["images"] - run.settings.distill.lr_img * slope.images * weights[:, None]
    assert torch.allclose(after.learned["images"], moved, atol=1e-6)
    if slope.logits is not None:
        by_labels = state.learned["logits"] - run.settings.distill.lr_labels * slope.logits
        assert torch.allclose(after.learned["logits"], by_labels, atol=1e-6)
    later = [after]
    for _ in range(4):
        later.append(loop.iterate(later[-1], loop.spans.ahead(later[-1].iteration))[0])
    assert [int(each.memory[SINCE]) for each in later] == [0, 0, 0, 0, 4]
    assert torch.equal(later[3].memory[WEIGHTS], weights)
    assert not torch.equal(later[4].memory[WEIGHTS], weights)


def test_experts_look_as_they_are_at_the_end_of_their_training(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, plain = (make_run(**{**LOOKING, **more}, buffer__epochs=5) for more in ({}, {"distill__emphasis": "none"}))
    assert plain.settings.read_epochs == plain.settings.matched_epochs == 3  # their identity is as it was
    assert run.settings.read_epochs == 5
    pipeline.buffer(run)
    loop, state = begun(run)
    asked: list[tuple[float, float]] = []
    rows = Experts.rows

    def seen(experts: Experts, expert: int, epochs: tuple[float, float]) -> object:
        asked.append(epochs)
        return rows(experts, expert, epochs)

    drawn = loop.spans.ahead(0)
    monkeypatch.setattr(Experts, "rows", seen)
    loop.iterate(state, drawn)
    assert asked == [(5, 5)]


def test_a_distillation_that_is_resumed_has_the_same_weights(make_run: Callable[..., Run], tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", **LOOKING)
    pipeline.distill(whole)
    for iterations in (3, 6):
        parts = make_run(tmp_path / "parts", **LOOKING, distill__iterations=iterations)
        pipeline.distill(parts)
    header, arrays = artefact.read(whole.synthetic, synthetic.KIND, "")
    again, others = artefact.read(parts.synthetic, synthetic.KIND, "")
    assert header.sha256 == again.sha256
    assert arrays.keys() == others.keys()
    assert not any(name.startswith("memory") for name in arrays)  # which only a state needs
    plain = make_run(tmp_path / "whole", distill__syn_steps=3)
    assert "emphasis" not in artefact.header(whole.experts / "expert-0000.h5", "expert", "").settings["buffer"]
    pipeline.distill(Run(plain.settings, force=True))
    assert artefact.header(whole.synthetic, synthetic.KIND, "").sha256 != header.sha256


def test_a_network_without_feature_maps_is_refused(make_run: Callable[..., Run]) -> None:
    run = make_run(**LOOKING, network__arch="mlp")
    with pytest.raises(UserError, match=r"needs a network with feature maps, and mlp has none; set distill.emphasis"):
        pipeline.distill(run)


@pytest.mark.parametrize(
    ("engine", "parameterisation"), [("tesla", "multiformation"), ("unroll", "frequency"), ("adjoint", "frequency")]
)
def test_all_axes_combine(make_run: Callable[..., Run], engine: str, parameterisation: str) -> None:
    axes: dict[str, object] = {"distill__compare": "far", "distill__mirror": "pairs", "distill__distilled_share": 0.5}
    coded: dict[str, object] = {"distill__parameterisation": parameterisation, "distill__storage": "float16"}
    fewer: dict[str, object] = {"distill__ipc": 1, "distill__frequencies": 16, "distill__batch_syn": 20}
    run = make_run(**LOOKING, **axes, **coded, **fewer, distill__engine=engine)
    pipeline.buffer(run)
    loop, state = begun(run)
    before = loop.coding.images(state.coded(), state.scales)
    after, (record,) = loop.iterate(state, loop.spans.ahead(0))
    moved = (loop.coding.images(after.coded(), after.scales) - before).flatten(1).any(dim=1).view(10, -1)
    half = moved.shape[1] // 2
    assert record.accepted
    assert not moved[:, :half].any()
    assert moved[:, half:].any()
    weights = after.memory[WEIGHTS]
    assert weights.shape == before[:, 0].shape
    shown, _ = loop.spans.slope(before, state.labels, state.lr, loop.spans.ahead(0))
    by_numbers = loop.coding.pull_back(state.coded(), state.scales, shown.images * weights[:, None])
    for name, gradient in by_numbers.items():
        velocity = after.moments[name]["velocity"]
        assert torch.allclose(velocity, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_the_weights_are_where_the_images_are(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(**LOOKING)
    pipeline.buffer(run)
    loop, _ = begun(run)
    assert loop.emphasis is not None
    monkeypatch.setattr(cam, "maps", lambda student, theta, x, classes, noise: x[:, 0] + noise[0, :, 0])
    elsewhere = torch.device("meta")  # a device that every machine has, beside the CPU
    images, labels = torch.empty(10, 1, 8, 8, device=elsewhere), torch.empty(10, dtype=torch.long, device=elsewhere)
    made = loop.emphasis._made(images, labels, 0)
    assert {name: x.device for name, x in made.items()} == {WEIGHTS: elsewhere, SINCE: elsewhere}
