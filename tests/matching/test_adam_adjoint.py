"""The gradient through a student's training by Adam, against the plain graph of an Adam that is written otherwise."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from attcli import augment
from attcli.matching import adam_adjoint
from attcli.matching.batches import Plan
from tests.matching.cases import DSA, case

LR = 3e-3


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def loss_of(module: nn.Module, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy at parameters theta (P,)."""
    parts = theta.split([parameter.numel() for parameter in module.parameters()])
    named = zip(module.named_parameters(), parts, strict=True)
    return nn.functional.cross_entropy(functional_call(module, {n: v.view(p.shape) for (n, p), v in named}, (x,)), y)


def oracle(module: nn.Module, start: Tensor, images: Tensor, y: Tensor, lr: Tensor, plan: Plan, before: int) -> Tensor:
    """The last parameters, with the graph of all steps but those `before`; moments are sums over all gradients."""
    theta, gradients = start, []
    for step in range(len(plan.indices)):
        if step == before:
            theta, gradients = theta.detach().requires_grad_(), [g.detach() for g in gradients]
        index = plan.indices[step]
        x = augment.apply(plan.augmentations[step], images[index])
        gradients += torch.autograd.grad(loss_of(module, theta, x, y[index]), theta, create_graph=True)
        t = len(gradients)
        first = sum(0.1 * 0.9 ** (t - 1 - i) * g for i, g in enumerate(gradients)) / (1 - 0.9**t)
        second = sum(0.001 * 0.999 ** (t - 1 - i) * g**2 for i, g in enumerate(gradients)) / (1 - 0.999**t)
        theta = theta - lr * first / (second**0.5 + 1e-8)
    return theta


def part(plan: Plan, steps: slice) -> Plan:
    """Some of a plan's steps."""
    drawn = replace(
        plan.augmentations, operations=plan.augmentations.operations[steps], uniform=plan.augmentations.uniform[steps]
    )
    return Plan(plan.indices[steps], plan.weights[steps], drawn)


@pytest.mark.parametrize(("soft", "before"), [(False, 0), (True, 0), (False, 3)])
def test_the_gradient_is_that_of_the_plain_graph(soft: bool, before: int) -> None:
    problem = case(6, DSA, soft=soft)
    lr = torch.tensor(LR)
    ahead = replace(problem, plan=part(problem.plan, slice(before))).batches
    batches = replace(problem, plan=part(problem.plan, slice(before, None))).batches
    student = adam_adjoint.trained(problem.student, adam_adjoint.begun(problem.start), ahead, lr)
    training = adam_adjoint.Training(student, len(batches))
    last = adam_adjoint.trained(problem.student, student, batches, lr, training)
    lam = torch.randn_like(problem.start)
    lr_gradient = adam_adjoint.swept(problem.student, training, batches, lam, lr)
    by_images, by_logits = batches.gradients()

    images, rate = problem.images.clone().requires_grad_(), lr.clone().requires_grad_()
    logits = problem.labels.clone().requires_grad_(soft)
    y = logits.softmax(dim=1) if soft else logits
    start = problem.start.clone().requires_grad_()
    theta = oracle(problem.student.module, start, images, y, rate, problem.plan, before)
    wanted = torch.autograd.grad((theta * lam).sum(), [images, rate, *([logits] if soft else [])])

    assert torch.allclose(last.theta, theta, rtol=0, atol=1e-8)
    assert torch.allclose(by_images, wanted[0], rtol=0, atol=1e-7 * float(wanted[0].abs().max()))
    assert torch.allclose(lr_gradient, wanted[1], rtol=1e-7)
    if soft:
        assert by_logits is not None
        assert torch.allclose(by_logits, wanted[2], rtol=0, atol=1e-7 * float(wanted[2].abs().max()))


def test_its_steps_are_those_of_torch() -> None:
    problem = case(6)
    student = adam_adjoint.trained(
        problem.student, adam_adjoint.begun(problem.start), problem.batches, torch.tensor(LR)
    )
    parameter = nn.Parameter(problem.start.clone())
    torchs = torch.optim.Adam([parameter], lr=LR)
    for step in range(len(problem.batches)):
        parameter.grad = problem.student.gradient(parameter.detach(), *problem.batches[step])
        torchs.step()
    assert torch.allclose(student.theta, parameter, rtol=0, atol=1e-8)  # biases before a norm: rounding alone
    assert torch.allclose(student.first, torchs.state[parameter]["exp_avg"], rtol=0, atol=1e-12)
    assert torch.allclose(student.second, torchs.state[parameter]["exp_avg_sq"], rtol=0, atol=1e-12)


def test_parameters_that_no_gradient_reached_pass_on_what_they_get() -> None:
    """A dead unit's root of the second moment is 0, by which the formula divides."""
    problem = case(6)
    student = adam_adjoint.begun(problem.start)
    training = adam_adjoint.Training(student, 1)
    gradient = torch.zeros_like(problem.start)
    gradient[5] = 0.5
    after = adam_adjoint.stepped(student, gradient, torch.tensor(0.1))
    training.keep(0, gradient, after)
    moved = problem.start - after.theta
    assert moved[5] == pytest.approx(0.1)
    assert moved.count_nonzero() == 1
    batches = replace(problem, plan=part(problem.plan, slice(1))).batches
    lam = torch.zeros_like(gradient)
    lam[4:6] = 1
    adam_adjoint.swept(problem.student, training, batches, lam, torch.tensor(0.1))
    assert batches.gradients()[0].isfinite().all()
