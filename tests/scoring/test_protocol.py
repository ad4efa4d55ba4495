"""The evaluation protocol, exact and as released."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring import training
from attcli.scoring.protocol import NAMED, NUMBERS, Protocol, protocol_of, schedule
from attcli.scoring.testing import accuracy
from attcli.scoring.training import StoppedError, fresh, train
from attcli.stages.of_a_set import own_protocol
from attcli.trainers.training import AdamW, Optimiser, mixed

ARCHITECTURE = Architecture("mlp", 1, 2, 4, {})
NAMED_SMALL = replace(NAMED["ncfm"], epochs=3, tests=2, augment="none")


def trained(images, labels, chosen: Protocol, repeat: int = 0):
    """A student and the parameters that it is trained to."""
    key = (0, "x", repeat)
    student = Student.of(ARCHITECTURE.build())
    return student, train(student, fresh(ARCHITECTURE, key), images, labels, 2, 0.05, chosen, key)


def protocol(name: str = "exact", epochs: int = 1000) -> Protocol:
    return Protocol(name, epochs, 256, 0.9, 5e-4, "none")


def test_exact_is_exactly_the_epochs_with_a_tenth_from_the_midpoint() -> None:
    passes = list(schedule(protocol()))
    assert len(passes) == 1000
    assert [factor for factor, _ in passes].index(0.1) == 500
    assert not any(afresh for _, afresh in passes)


def test_released_is_1001_passes_502_of_them_before_the_reset() -> None:
    passes = list(schedule(protocol("released")))
    assert len(passes) == 1001
    assert sum(factor == 1.0 for factor, _ in passes) == 502
    assert [position for position, (_, afresh) in enumerate(passes) if afresh] == [502]


def test_training_separates_what_can_be_separated_and_repeats_itself() -> None:
    images = torch.cat([torch.ones(3, 1, 4, 4), -torch.ones(3, 1, 4, 4)])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    student, theta = trained(images, labels, protocol(epochs=30))
    assert accuracy(student, theta, images, labels) == 100
    assert accuracy(student, theta, images, 1 - labels) == 0
    again = trained(images, labels, protocol(epochs=30))[1]
    other = trained(images, labels, protocol(epochs=30), 1)[1]
    assert torch.equal(theta, again)
    assert not torch.equal(theta, other)


def test_released_and_exact_differ_by_the_reset() -> None:
    images, labels = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 0, 1])
    found = [trained(images, labels, protocol(name, 6))[1] for name in ("exact", "released")]
    assert not torch.equal(*found)


def test_soft_labels_are_learned_from() -> None:
    images = torch.cat([torch.ones(2, 1, 4, 4), -torch.ones(2, 1, 4, 4)])
    logits = torch.tensor([[4.0, -4.0]] * 2 + [[-4.0, 4.0]] * 2)
    student, theta = trained(images, logits, protocol(epochs=30))
    assert accuracy(student, theta, images, torch.tensor([0, 0, 1, 1])) == 100


@pytest.mark.parametrize("count", [1, 499, 500, 501])
def test_accuracy_counts_every_image(count: int) -> None:
    module = ARCHITECTURE.build()
    student, theta = Student.of(module), vector(module)
    images = torch.randn(count, 1, 4, 4)
    labels = module(images).argmax(dim=1)
    labels[0] = 1 - labels[0]
    assert accuracy(student, theta, images, labels) == pytest.approx(100 * (count - 1) / count)


def test_training_stops_when_asked() -> None:
    student, key = Student.of(ARCHITECTURE.build()), (0, "x", 0)
    images, labels = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 0, 1])
    with pytest.raises(StoppedError):
        train(student, fresh(ARCHITECTURE, key), images, labels, 2, 0.05, protocol(), key, lambda: True)


def test_the_learning_rates_of_the_literature_fall_as_theirs() -> None:
    idc = [factor for factor, _ in schedule(NAMED["idc"])]
    assert len(idc) == 1000
    assert [idc[i] for i in (0, 665, 666, 832, 833, 999)] == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04])
    selmatch = [factor for factor, _ in schedule(NAMED["selmatch"])]
    assert len(selmatch) == 1000
    assert [selmatch[i] for i in (0, 250, 500, 750)] == pytest.approx([1, 0.855, 0.505, 0.155], abs=1e-3)
    assert 0.01 < selmatch[999] < 0.01001
    ncfm = [factor for factor, _ in schedule(NAMED["ncfm"])]
    assert len(ncfm) == 2000
    assert [ncfm[i] for i in (0, 399, 400, 800, 1200, 1600, 1999)] == [1, 1, 0.5, 0.25, 0.125, 0.0625, 0.0625]
    assert [*schedule(NAMED["adam"])] == [(1.0, False)] * 1000


def test_a_protocol_of_the_literature_takes_only_what_is_asked_for() -> None:
    of_a_set = {"epochs": 300, "batch": 10, "augment": "none"}
    assert protocol_of("idc", of_a_set, {}) == NAMED["idc"]
    assert protocol_of("honest", of_a_set, {}) == Protocol()
    assert protocol_of("mtt", of_a_set, {"epochs": 5, "batch": None}) == Protocol("released", 5)
    assert protocol_of(None, of_a_set, {"batch": 7}) == Protocol("exact", 300, 7, augment="none")
    assert protocol_of("released", of_a_set, {}) == Protocol("released", 300, 10, augment="none")
    by_adam = protocol_of("adam", of_a_set, {})
    assert by_adam == replace(NAMED["adam"], epochs=300, batch=10, augment="none")
    assert (by_adam.optimiser, by_adam.weight_decay, by_adam.rate) == ("adamw", 0, None)


def test_the_numbers_of_another_optimiser_are_not_taken() -> None:
    numbers = {"epochs": 300, "momentum": 0.9, "weight_decay": 5e-4}

    def of(own: dict[str, Any], **asked: Any) -> Protocol:
        return own_protocol(cast(Any, SimpleNamespace(about={"protocol": own})), **asked)

    assert of(numbers, protocol="adam") == replace(NAMED["adam"], epochs=300)
    assert of(numbers, protocol="adam", weight_decay=1e-3).weight_decay == 1e-3
    by_adam = {"protocol": "adam", "momentum": 0.0, "weight_decay": 0.1}
    assert of(by_adam).weight_decay == 0.1
    assert of(by_adam, protocol="exact") == Protocol()
    assert of({**numbers, "momentum": 0.5}, protocol="released").momentum == 0.5


def test_what_most_protocols_do_without_is_not_stated() -> None:
    assert set(Protocol("released", 5).stated()) == {*NUMBERS}
    assert set(NAMED["ncfm"].stated()) - {*NUMBERS} == {"rate", "optimiser", "cutmix", "tests"}


def test_adamw_is_torchs() -> None:
    theta, module = torch.randn(6, generator=torch.Generator().manual_seed(0)), torch.nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(theta)
    ours, theirs = AdamW(0.1, 5e-4), torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=5e-4)
    for factor in (1, 1, 0.5):
        gradient = torch.randn(6)
        ours.lr = theirs.param_groups[0]["lr"] = 0.1 * factor
        ours.step(theta, gradient)
        module.weight.grad = gradient.view(1, 6)
        theirs.step()
    assert torch.equal(theta, module.weight.detach()[0])
    assert theta.grad is None


def test_mixed_images_have_boxes_of_others_and_targets_by_the_shares_of_pixels() -> None:
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    p = torch.eye(6)
    boxes = 0
    for seed in range(40):
        mixed_x, mixed_p = mixed(x, p, 5, 0.5, torch.Generator().manual_seed(seed))
        assert torch.equal(mixed_x[5], x[5])
        for i in range(5):
            shares = torch.stack([(mixed_x[i] == value).double().mean() for value in range(6)])
            assert torch.allclose(shares.float(), mixed_p[i])
        boxes += not torch.equal(mixed_p, p)
    assert 8 < boxes < 25


def test_tests_on_the_way_are_told_of_every_pass() -> None:
    images, labels = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 0, 1])
    student, key, seen = Student.of(ARCHITECTURE.build()), (0, "x", 0), []
    theta = fresh(ARCHITECTURE, key)
    train(student, theta, images, labels, 2, 0.01, NAMED_SMALL, key, after=lambda n, theta: seen.append((n, theta[0])))
    assert [n for n, _ in seen] == [1, 2, 3]
    assert seen[-1][1] == theta[0]


def test_each_protocol_trains_with_its_optimiser_and_its_cutmix(monkeypatch: pytest.MonkeyPatch) -> None:
    met: dict[str, tuple[type, float]] = {}
    real = training.train_epoch

    def noted(step_functions: Any, theta: Any, optimiser: Any, *words: Any, cutmix: float = 0.0, **more: Any) -> None:
        met[name] = (type(optimiser), cutmix)
        real(step_functions, theta, optimiser, *words, cutmix=cutmix, **more)

    monkeypatch.setattr(training, "train_epoch", noted)
    images, labels, key = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 0, 1]), (0, "x", 0)
    for name, chosen in NAMED.items():
        if name != "replay":
            small = replace(chosen, epochs=1, tests=None, augment="none", combined=False)
            train(Student.of(ARCHITECTURE.build()), fresh(ARCHITECTURE, key), images, labels, 2, 0.01, small, key)
    plain = dict.fromkeys(("exact", "released", "honest", "mtt", "datm", "selmatch"), (Optimiser, 0.0))
    assert met == {**plain, "adam": (AdamW, 0.0), "idc": (Optimiser, 0.5), "ncfm": (AdamW, 0.5)}


def test_numbers_of_the_literature_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scores.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]* \| ([\d,]+)[^|]* \| (\d+)", page, re.M)
    assert {"mtt", "datm", "idc", "selmatch", "ncfm"} <= {name for name, *_ in rows}
    for name, epochs, batch in rows:
        protocol = NAMED[name]
        planned = protocol.epochs + (protocol.name == "released")
        assert (int(epochs.replace(",", "")), int(batch)) in {
            (planned, protocol.batch),
            (protocol.epochs, protocol.batch),
        }
    assert NAMED["idc"].augment == NAMED["ncfm"].augment == "flip+color+crop_scale_rotate"
    assert {name: NAMED[name].batch for name in ("mtt", "datm", "idc", "selmatch", "ncfm")} == {
        "mtt": 256, "datm": 128, "idc": 64, "selmatch": 128, "ncfm": 128,
    }  # fmt: skip


def test_a_mixed_box_has_the_share_of_pixels_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.tensor([0.0, 0.75, 0.5, 0.5]))
    x = torch.arange(1.0, 5).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(1))
    assert order[0] != 0
    seen, p = mixed(x, torch.eye(4), 4, 0.5, generator)
    inside = (seen[0, 0] != 1).nonzero().tolist()
    assert inside == [[row, column] for row in range(2, 6) for column in range(2, 6)]
    assert float(p[0, 0]) == 0.75
