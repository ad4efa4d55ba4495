"""Files as the released codes write them, made by plain torch; nothing of attcli is used."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


class ConvNet(nn.Module):
    """A ConvNet in the released codes' form: blocks of convolution, group norm with a group per channel, ReLU, pool."""

    def __init__(self, width: int = 8, depth: int = 2, side: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(depth):
            layers.append(nn.Conv2d(width if block else 1, width, kernel_size=3, padding=1))
            layers += [nn.GroupNorm(width, width), nn.ReLU(), nn.AvgPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * (side // 2**depth) ** 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def digits() -> tuple[Tensor, Tensor]:
    """All digits, standardised; their classes."""
    both = load_digits()
    images = torch.from_numpy(both.images).float().unsqueeze(1) / 16
    return (images - images.mean()) / images.std(), torch.from_numpy(both.target)


def trajectory(seed: int, epochs: int = 3) -> list[list[Tensor]]:
    """An expert: its parameters at initialisation and after every epoch."""
    torch.manual_seed(seed)
    network = ConvNet()
    images, labels = digits()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    kept = [[p.detach().clone() for p in network.parameters()]]
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(256):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
        kept.append([p.detach().clone() for p in network.parameters()])
    return kept


def buffers(folder: Path, files: int = 2, experts: int = 2, seed: int = 0) -> list[list[list[list[Tensor]]]]:
    """Files replay_buffer_0.pt …, and what they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    held = [[trajectory(seed + 10 * file + i) for i in range(experts)] for file in range(files)]
    for number, content in enumerate(held):
        torch.save(content, folder / f"replay_buffer_{number}.pt")
    return held


def equal(a: object, b: object) -> bool:
    """Whether two nested lists of tensors are the same, types and bits included."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
