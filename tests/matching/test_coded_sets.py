"""Learned numbers of every parameterisation in every storage: their gradients against one graph through everything.

The reference goes in float64 from the learned numbers, through rounding by the definition of the straight-through
estimate, through decoding and the normaliser, and through all of the student's steps to the matching loss.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attcli import coding
from attcli.coding import Coding
from attcli.data import normalise
from attcli.matching import engine
from attcli.parameterisations import Coded, Space
from tests.matching.cases import DSA, IMAGES, Case, case, relative
from tests.matching.oracle import _loss
from tests.parameterisations.test_contract import NAMES as PARAMETERISATIONS
from tests.parameterisations.test_contract import made as parameterisation
from tests.storage.test_contract import NAMES as STORAGES
from tests.storage.test_contract import made as storage

STEP = 3


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def begun(name: str, kept_as: str, kind: str = "zca") -> tuple[Coding, Coded, dict[str, dict[str, Tensor]]]:
    """A coding, its numbers for 12 grey images of three classes, and scales that leave some numbers out of range."""
    pixels = torch.rand((300, 1, 8, 8), generator=torch.Generator().manual_seed(5), dtype=torch.float32)
    space = Space(1, 8, normalise.fit(kind, pixels, 0.1))
    whole = Coding(parameterisation(name), storage(kept_as), None, space)
    plain = torch.rand((IMAGES, 1, 8, 8), generator=torch.Generator().manual_seed(6))
    coded = whole.encode(space.known.forward(plain), torch.arange(3).repeat_interleave(IMAGES // 3))
    scales = whole.fit({key: 0.8 * x for key, x in coded.learned.items()})
    return whole, coded, scales


def by_one_graph(matching: Case, whole: Coding, coded: Coded, scales: dict, lr: Tensor) -> dict[str, Tensor]:
    """The derivatives of the loss after STEP steps in the learned numbers, by autograd alone."""
    leaves = {key: x.clone().requires_grad_() for key, x in coded.learned.items()}
    rounded = {}
    for key, x in leaves.items():
        value = whole.storage.rounded(x.detach(), scales.get(key, {}))
        rounded[key] = value + (x - x.detach())  # the value of one, the derivative of the other
    images = whole.parameterisation.decode(Coded(rounded, coded.constants), whole.space)
    theta = matching.start.clone().requires_grad_()
    for step in range(STEP):
        loss = _loss(matching.student.module, theta, images, matching.labels, matching.plan, step,
                     matching.plan.weights[step] > 0)  # fmt: skip
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * g
    loss = (theta - matching.target).pow(2).sum() / (matching.start - matching.target).pow(2).sum()
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    for key, gradient in gradients.items():
        beyond = whole.storage.beyond(coded.learned[key], scales.get(key, {}))
        if beyond is not None:
            gradient[(beyond == 1) & (gradient < 0)] = 0
            gradient[(beyond == -1) & (gradient > 0)] = 0
    return gradients


@pytest.mark.parametrize("kept_as", STORAGES)
@pytest.mark.parametrize("name", PARAMETERISATIONS)
@pytest.mark.parametrize("batch", [IMAGES, 5])
def test_gradients_are_those_of_one_graph_through_everything(name: str, kept_as: str, batch: int) -> None:
    whole, coded, scales = begun(name, kept_as)
    lr = torch.tensor(0.1)
    matching = replace(case(batch, DSA), images=whole.images(coded, scales))
    batches = matching.batches
    engine.load("adjoint")(matching.student, matching.start, matching.target, batches, lr, lambda distances: STEP)
    pulled = whole.pull_back(coded, scales, batches.gradients()[0])
    wanted = by_one_graph(matching, whole, coded, scales, lr)
    assert pulled.keys() == wanted.keys()
    for key, gradient in pulled.items():
        assert relative(gradient, wanted[key]) < 1e-10


@pytest.mark.parametrize("name", PARAMETERISATIONS)
def test_numbers_out_of_range_can_only_come_back(name: str) -> None:
    whole, coded, scales = begun(name, "codes")
    gradient = torch.randn(whole.images(coded, scales).shape)
    pulled = whole.pull_back(coded, scales, gradient)
    for key, x in coded.learned.items():
        beyond = whole.storage.beyond(x, scales[key])
        assert beyond is not None
        assert bool((beyond == 1).any())
        for side in (-1, 1):
            outside = pulled[key][beyond == side]
            assert bool((side * outside >= 0).all())
            if len(outside):
                assert bool((outside == 0).any())
                assert bool((outside != 0).any())
        assert bool((pulled[key][beyond == 0] != 0).all())


def test_labels_out_of_range_can_only_come_back() -> None:
    whole = replace(begun("pixels", "float32")[0], label_storage=storage("uint8"))
    logits = torch.tensor([[0.0, 1.0, 2.0], [-3.0, 5.0, 1.0]])
    scales = whole.fit_labels(logits[:1])  # with room of 0.5 on both sides
    pulled = whole.pull_back_labels(logits, scales, torch.ones(2, 3))
    assert pulled.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert whole.labels(logits, scales).tolist()[1][:2] == [-0.5, 2.5]


def test_labels_that_are_all_equal_can_move() -> None:
    whole = replace(begun("pixels", "float32")[0], label_storage=storage("uint8"))
    logits = torch.zeros(4, 3)
    scales = whole.fit_labels(logits)
    assert torch.allclose(whole.labels(logits, scales), logits, atol=0.002)
    assert torch.allclose(whole.labels(logits + 0.1, scales), logits + 0.1, atol=0.002)
    wide = whole.fit_labels(torch.tensor([[-8.0, 8.0, 0.0]]))
    assert whole.labels(torch.tensor([[-9.9, 9.9, 0.0]]), wide)[0, :2].tolist() == pytest.approx([-9.9, 9.9], abs=0.05)


@pytest.mark.parametrize(
    ("name", "kept_as", "options", "images"),
    [
        ("pixels", "float32", {}, 1),
        ("pixels", "float64", {}, 1),
        ("pixels", "float16", {}, 2),
        ("pixels", "uint8", {}, 4),
        ("multiformation", "float32", {}, 4),
        ("multiformation", "uint8", {}, 16),
        ("multiformation", "uint8", {"factor": 3}, 36),
        ("multiformation", "codes", {"code_bits": 4}, 28),
        ("multiformation", "codes", {"code_bits": 2}, 60),
        ("frequency", "float32", {}, 16),
        ("frequency", "uint8", {}, 64),
    ],
)
def test_images_that_the_bytes_of_one_pay_for(name: str, kept_as: str, options: dict[str, int], images: int) -> None:
    """At 32 x 32 in colour one image takes 12,288 bytes; codes take their bits per number, and 6 bits per patch."""
    own = {key: value for key, value in options.items() if key.startswith("code_")}
    others = {"frequencies": 64} if name == "frequency" else {}
    image = parameterisation(name, **others, **{key: value for key, value in options.items() if key not in own})
    whole = Coding(image, storage(kept_as, **own), None, Space(3, 32))
    assert whole.images_per_class(1) == images
    assert whole.images_per_class(10) >= 10 * images
    numbers = whole.counted_bytes(1, 10, soft_labels=False) - coding.FLOAT32_BYTES
    apart = 10 * image.constant_bytes(32) + (8 if kept_as == "uint8" else 4 * 64 if kept_as == "codes" else 0)
    assert numbers - apart <= 10 * 12_288 * (2 if kept_as == "float64" else 1)
