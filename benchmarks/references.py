"""References, written plainly as the literature describes them: what the figures are ratios against."""

import torch
from torch import Tensor, nn
from torch.func import functional_call


def full_unroll(
    module: nn.Module, start: Tensor, target: Tensor, images: Tensor, labels: Tensor, lr: Tensor, batches: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """The gradients in images and lr of the matching loss, by backpropagation through the graph of all steps."""
    images, lr = images.clone().requires_grad_(), lr.clone().requires_grad_()
    shapes = [(name, p.shape, p.numel()) for name, p in module.named_parameters()]
    theta = start.clone().requires_grad_()
    for index in batches:
        pieces = theta.split([size for _, _, size in shapes])
        parameters = {name: piece.view(shape) for (name, shape, _), piece in zip(shapes, pieces, strict=True)}
        loss = nn.functional.cross_entropy(functional_call(module, parameters, (images[index],)), labels[index])
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * gradient
    loss = (theta - target).square().sum() / (start - target).square().sum()
    by_images, by_lr = torch.autograd.grad(loss, (images, lr))
    return by_images, by_lr
