"""References, written plainly as the literature describes them: what the figures are ratios against."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from attcli import augment

DSA = "color_crop_cutout_flip_scale_rotate"


def full_unroll(
    module: nn.Module,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    batches: list[tuple[Tensor, augment.Draw]],
    k: int,
) -> tuple[Tensor, Tensor]:
    """The gradients in images and lr of the matching loss of step k, by backpropagation through all steps' graph."""
    images, lr = images.clone().requires_grad_(), lr.clone().requires_grad_()
    shapes = [(name, p.shape, p.numel()) for name, p in module.named_parameters()]
    theta = start.clone().requires_grad_()
    states = []
    for index, drawn in batches:
        pieces = theta.split([size for _, _, size in shapes])
        parameters = {name: piece.view(shape) for (name, shape, _), piece in zip(shapes, pieces, strict=True)}
        x = augment.apply(drawn, images[index])
        loss = nn.functional.cross_entropy(functional_call(module, parameters, (x,)), labels[index])
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * gradient
        states.append(theta)
    loss = (states[k - 1] - target).square().sum() / (start - target).square().sum()
    by_images, by_lr = torch.autograd.grad(loss, (images, lr))
    return by_images, by_lr


def train(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    batch: int,
    *,
    lr: float,
    momentum: float,
    decay: float,
) -> nn.Module:
    """Epochs of SGD over a shuffling DataLoader on host tensors, each batch augmented as it comes."""
    device = next(module.parameters()).device
    optimiser = torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    loader = DataLoader(TensorDataset(images, labels), batch_size=batch, shuffle=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for loaded, y in loader:
            operation, uniform = augment.draw(DSA, 1, len(loaded), generator)[0]
            x = augment.apply(augment.Draw(operation, uniform.to(device)), loaded.to(device))
            loss = nn.functional.cross_entropy(module(x), y.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return module


def write_pickled(file: Path, trajectories: list[list[list[Tensor]]]) -> None:
    """Experts as torch pickles a list of lists of lists of tensors: expert, epoch, parameter."""
    torch.save(trajectories, file)


def read_pickled(file: Path, wanted: list[tuple[int, int, int]]) -> list[tuple[Tensor, Tensor]]:
    """Flat start and target of (expert, start epoch, end epoch), from the file loaded whole."""
    trajectories = torch.load(file)

    def flat(expert: int, epoch: int) -> Tensor:
        return torch.cat([p.reshape(-1) for p in trajectories[expert][epoch]])

    return [(flat(expert, first), flat(expert, last)) for expert, first, last in wanted]
