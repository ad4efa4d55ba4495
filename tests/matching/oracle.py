"""The reference that the engines are held against: the plain unroll with its whole graph, as the literature has it.

It shares nothing with the engines but the network, the augmentation and the draws.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from attcli import augment
from attcli.matching.batches import Plan


def unroll(
    module: nn.Module, start: Tensor, target: Tensor, images: Tensor, labels: Tensor, lr: Tensor, plan: Plan, k: int
) -> tuple[Tensor, list[Tensor]]:
    """The matching loss after k steps, and its gradients in images, lr and, if labels are logits, labels."""
    images, lr, start = images.clone().requires_grad_(), lr.clone().requires_grad_(), start.clone().requires_grad_()
    labels = labels.clone().requires_grad_(labels.is_floating_point())
    shapes = [(name, p.shape) for name, p in module.named_parameters()]
    theta = start
    for step in range(k):
        keep = plan.weights[step] > 0
        index = plan.indices[step][keep]
        operation, uniform = plan.augmentations[step]
        x = augment.apply(augment.Draw(operation, uniform[keep] if operation else uniform), images[index])
        parameters, offset = {}, 0
        for name, shape in shapes:
            parameters[name] = theta[offset : offset + shape.numel()].view(shape)
            offset += shape.numel()
        outputs = functional_call(module, parameters, (x,))
        y = labels[index]
        loss = nn.functional.cross_entropy(outputs, y.softmax(dim=1) if y.is_floating_point() else y)
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * g
    loss = (theta - target).pow(2).sum() / (start.detach() - target).pow(2).sum()
    wanted = [images, lr] + ([labels] if labels.is_floating_point() else [])
    return loss, list(torch.autograd.grad(loss, wanted))
