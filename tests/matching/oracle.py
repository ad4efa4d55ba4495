"""The reference that the engines are held against: the plain unroll with its whole graph, as the literature has it.

It shares nothing with the engines but the network, the augmentation and the draws.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from attcli import augment
from attcli.matching.batches import Plan

Counts = Callable[[Tensor, Tensor], Tensor]
"""Takes the student's and the target's numbers (P,) to the indices of those that are compared."""


def everything(theta: Tensor, target: Tensor) -> Tensor:
    return torch.arange(len(theta))


def deep(share: float) -> Counts:
    """PAD, eq. 4: the last P - k numbers, with k = P * share."""
    return lambda theta, target: torch.arange(len(theta))[int(share * len(theta)) :]


def far(share: float) -> Counts:
    """PAD's released code, and EDF: the numbers are sorted by their error, and the first k of them left out."""
    return lambda theta, target: torch.sort((theta - target).pow(2)).indices[int(share * len(theta)) :]


def tesla(
    module: nn.Module,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    plan: Plan,
    k: int,
    counts: Counts = everything,
) -> tuple[Tensor, list[Tensor]]:
    """The matching loss after k steps, and TESLA's gradients: each step's parameters are taken as constants."""
    images, lr = images.clone().requires_grad_(), lr.clone().requires_grad_()
    labels = labels.clone().requires_grad_(labels.is_floating_point())
    theta, total = start.clone(), torch.zeros_like(start)
    for step in range(k):
        keep, constant = plan.weights[step] > 0, theta.detach().requires_grad_()
        loss = _loss(module, constant, images, labels, plan, step, keep)
        (g,) = torch.autograd.grad(loss, constant, create_graph=True)
        total = total + g
        theta = theta - lr.detach() * g.detach()
    i = counts(theta, target)
    loss = (start - lr * total - target)[i].pow(2).sum() / (start - target)[i].pow(2).sum()
    wanted = [images, lr] + ([labels] if labels.is_floating_point() else [])
    return loss, list(torch.autograd.grad(loss, wanted))


def _loss(
    module: nn.Module, theta: Tensor, images: Tensor, labels: Tensor, plan: Plan, step: int, keep: Tensor
) -> Tensor:
    index = plan.indices[step][keep]
    operation, uniform = plan.augmentations[step]
    x = images[index]
    if plan.mirrored is not None:
        x = torch.stack([image[..., range(image.shape[-1])[::-1]] if flip else image
                         for image, flip in zip(x, plan.mirrored[step][keep].tolist(), strict=True)])  # fmt: skip
    x = augment.apply(augment.Draw(operation, uniform[keep] if operation else uniform), x)
    parameters, offset = {}, 0
    for name, p in module.named_parameters():
        parameters[name] = theta[offset : offset + p.numel()].view(p.shape)
        offset += p.numel()
    y = labels[index]
    return nn.functional.cross_entropy(
        functional_call(module, parameters, (x,)), y.softmax(dim=1) if y.is_floating_point() else y
    )


def unroll(
    module: nn.Module,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    plan: Plan,
    k: int,
    counts: Counts = everything,
) -> tuple[Tensor, list[Tensor]]:
    """The matching loss after k steps, and its gradients in images, lr and, if labels are logits, labels."""
    images, lr, start = images.clone().requires_grad_(), lr.clone().requires_grad_(), start.clone().requires_grad_()
    labels = labels.clone().requires_grad_(labels.is_floating_point())
    theta = start
    for step in range(k):
        loss = _loss(module, theta, images, labels, plan, step, plan.weights[step] > 0)
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * g
    i = counts(theta.detach(), target)
    loss = (theta - target)[i].pow(2).sum() / (start.detach() - target)[i].pow(2).sum()
    wanted = [images, lr] + ([labels] if labels.is_floating_point() else [])
    return loss, list(torch.autograd.grad(loss, wanted))
