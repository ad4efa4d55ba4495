"""The engines against the plain full unroll, in float64."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attcli import augment
from attcli.matching import adjoint, engine, objective, select
from attcli.matching.batches import Plan, SyntheticBatches, plan, probabilities
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.runtime import stream
from tests.matching.oracle import unroll

IMAGES, STEPS, CLASSES = 12, 7, 10
DSA = "color_crop_cutout_flip_scale_rotate"


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def case(
    batch: int, strategy: str, soft: bool, arch: str = "convnet"
) -> tuple[Student, Tensor, Tensor, Tensor, Tensor, Plan]:
    torch.manual_seed(0)
    options = {"width": 8, "depth": 2} if arch == "convnet" else {}
    student = Student.of(Architecture(arch, 1, CLASSES, 8, options).build())
    start = vector(student.module)
    target = start + 0.02 * torch.randn_like(start)
    images = torch.randn(IMAGES, 1, 8, 8)
    labels = torch.randn(IMAGES, CLASSES) if soft else torch.arange(IMAGES) % CLASSES
    drawn = plan(IMAGES, batch, STEPS, strategy, stream(0, "plan"))
    augmentations = [replace_uniform(drawn, i) for i in range(STEPS)]
    return (
        student,
        start,
        target,
        images,
        labels,
        replace(drawn, weights=drawn.weights.double(), augmentations=augmentations),
    )


def replace_uniform(drawn: Plan, step: int):
    found = drawn.augmentations[step]
    return found._replace(uniform=found.uniform.double())


def batches_of(images: Tensor, labels: Tensor, drawn: Plan) -> SyntheticBatches:
    targets = probabilities(labels, CLASSES).double()
    return SyntheticBatches(images, targets, drawn, learned_labels=labels.is_floating_point())


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted.detach()).norm() / wanted.detach().norm())


@pytest.mark.parametrize("k", [1, 4, STEPS])
@pytest.mark.parametrize("batch", [IMAGES, 4, 5], ids=["full", "sub-batches", "short-last-batch"])
@pytest.mark.parametrize("strategy", ["none", DSA])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("name", ["adjoint", "unroll"])
def test_gradients_are_those_of_the_full_unroll(name: str, k: int, batch: int, strategy: str, soft: bool) -> None:
    student, start, target, images, labels, drawn = case(batch, strategy, soft)
    lr = torch.tensor(0.1)
    batches = batches_of(images, labels, drawn)
    match = engine.load(name)(student, start, target, batches, lr, lambda distances: k)
    loss, (by_images, by_lr, *by_labels) = unroll(student.module, start, target, images, labels, lr, drawn, k)
    assert relative(match.loss, loss) < 1e-10
    assert relative(batches.image_gradient, by_images) < 1e-10
    assert relative(match.lr_gradient, by_lr) < 1e-10
    if by_labels:
        assert relative(batches.logit_gradient, by_labels[0]) < 1e-10


@pytest.mark.parametrize("arch", ["vgg11", "mlp", "lenet", "alexnet", "resnet18"])
def test_gradients_for_every_network(arch: str) -> None:
    student, start, target, images, labels, drawn = case(4, "scale_crop", soft=False, arch=arch)
    short = Plan(drawn.indices[:2], drawn.weights[:2], drawn.augmentations[:2])
    batches, lr = batches_of(images, labels, short), torch.tensor(0.05)
    match = adjoint.match(student, start, target, batches, lr, lambda distances: 2)
    _, (by_images, by_lr) = unroll(student.module, start, target, images, labels, lr, short, 2)
    assert relative(batches.image_gradient, by_images) < 1e-8
    assert relative(match.lr_gradient, by_lr) < 1e-8


def test_distances_select_and_loss_belong_together() -> None:
    student, start, target, images, labels, drawn = case(5, DSA, soft=False)
    lr = torch.tensor(0.1)
    match = adjoint.match(student, start, target, batches_of(images, labels, drawn), lr, select.nearest)
    states = adjoint.trajectory(student, start, batches_of(images, labels, drawn), lr)
    by_hand = torch.stack([(state - target).abs().sum() for state in states[1:]])
    assert torch.allclose(match.distances[0], by_hand)
    assert torch.allclose(match.distances[1], (states[1:] - target).norm(dim=1))
    assert by_hand[match.step - 1] == by_hand.min()
    assert torch.allclose(match.loss, match.distances[1, match.step - 1] ** 2 / (start - target).square().sum())


def test_images_met_only_after_the_matched_step_have_no_gradient() -> None:
    student, start, target, images, labels, drawn = case(4, "none", soft=False)
    batches = batches_of(images, labels, drawn)
    adjoint.match(student, start, target, batches, torch.tensor(0.1), lambda distances: 1)
    met = set(drawn.indices[0].tolist())
    moved = {i for i in range(IMAGES) if batches.image_gradient[i].abs().sum() > 0}
    assert moved == met


def test_gradcheck() -> None:
    student, start, target, images, labels, drawn = case(IMAGES, "scale_color", soft=False, arch="mlp")
    short = Plan(drawn.indices[:2], drawn.weights[:2], drawn.augmentations[:2])

    class Engine(torch.autograd.Function):
        @staticmethod
        def forward(context, pixels, lr):
            batches = batches_of(pixels.detach(), labels, short)
            match = adjoint.match(student, start, target, batches, lr.detach(), lambda distances: 2)
            context.save_for_backward(batches.image_gradient, match.lr_gradient)
            return match.loss

        @staticmethod
        def backward(context, outer):
            by_images, by_lr = context.saved_tensors
            return outer * by_images, outer * by_lr

    inputs = images.requires_grad_(), torch.tensor(0.1, requires_grad=True)
    assert torch.autograd.gradcheck(Engine.apply, inputs, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_tesla_is_what_its_authors_describe(soft: bool) -> None:
    student, start, target, images, labels, drawn = case(5, DSA, soft)
    lr, k = torch.tensor(0.1), 5
    batches = batches_of(images, labels, drawn)
    match = engine.load("tesla")(student, start, target, batches, lr, lambda distances: k)
    # With all theta_i constant, L is a function of the images through the sum of the gradients alone.
    states = adjoint.trajectory(student, start, batches_of(images, labels, drawn), lr)
    pixels, rate = images.clone().requires_grad_(), lr.clone().requires_grad_()
    logits = labels.clone().requires_grad_(soft)
    total = torch.zeros_like(start)
    for i in range(k):
        theta = states[i].clone().requires_grad_()
        index = drawn.indices[i]
        x = augment.apply(drawn.augmentations[i], pixels[index])
        p = probabilities(logits, CLASSES).double()[index]
        total = total + torch.autograd.grad(student.loss(theta, x, p, drawn.weights[i]), theta, create_graph=True)[0]
    loss = objective.loss(start - rate * total, start, target)
    wanted = [pixels, rate] + ([logits] if soft else [])
    found = torch.autograd.grad(loss, wanted)
    assert relative(batches.image_gradient, found[0]) < 1e-10
    assert relative(match.lr_gradient, found[1]) < 1e-10
    if soft:
        assert relative(batches.logit_gradient, found[2]) < 1e-10


def test_tesla_is_exact_for_one_step_and_drifts_with_more() -> None:
    student, start, target, images, labels, drawn = case(IMAGES, "none", soft=False)

    def gap(k: int) -> float:
        gradients = []
        for name in ("tesla", "adjoint"):
            batches = batches_of(images, labels, drawn)
            engine.load(name)(student, start, target, batches, torch.tensor(0.5), lambda distances: k)
            gradients.append(batches.image_gradient)
        return relative(*gradients)

    assert gap(1) < 1e-12
    assert gap(STEPS) > gap(2) > 1e-3
