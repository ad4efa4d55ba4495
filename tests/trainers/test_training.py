"""SGD on the flat vector against torch's own optimiser and modules."""

import pytest
import torch
from torch import nn

from attcli import augment, registry
from attcli.matching.parameters import vector
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.runtime import stream
from attcli.trainers import gradients, load
from attcli.trainers.training import Optimiser, train_epoch

IMAGES = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10) % 3


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.01)])
def test_epochs_are_those_of_torch(momentum: float, weight_decay: float) -> None:
    torch.manual_seed(0)
    module = Architecture("convnet", 1, 3, 8, {"width": 4, "depth": 2}).build()
    theta = vector(module)
    optimiser = Optimiser(0.1, momentum, weight_decay)
    options = {"classes": 3, "batch": 4, "strategy": "crop_scale"}
    generator = stream(0, "a")
    found = [
        train_epoch(Student.of(module), theta, optimiser, IMAGES, LABELS, generator=generator, **options)
        for _ in range(2)
    ]
    reference = torch.optim.SGD(module.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    generator = stream(0, "a")
    for position in range(2):
        losses, correct = 0.0, 0
        order = torch.randperm(10, generator=generator).split(4)
        for index, drawn in zip(order, augment.draw("crop_scale", 3, 4, generator), strict=True):
            x = augment.apply(augment.Draw(drawn.operation, drawn.uniform[: len(index)]), IMAGES[index])
            outputs = module(x)
            loss = nn.functional.cross_entropy(outputs, LABELS[index])
            reference.zero_grad()
            loss.backward()
            reference.step()
            losses += loss.item() * len(index)
            correct += int((outputs.argmax(1) == LABELS[index]).sum())
        assert found[position].tolist() == pytest.approx([losses / 10, 10.0 * correct], rel=1e-5)
    assert torch.allclose(theta, vector(module), atol=1e-6)


def test_an_epoch_in_float64_is_that_of_torch_in_float64() -> None:
    torch.manual_seed(0)
    module = Architecture("convnet", 1, 3, 8, {"width": 4, "depth": 2}).build().double()
    theta, images = vector(module), IMAGES.double()
    options = {"classes": 3, "batch": 7, "strategy": "none", "generator": stream(0, "a")}
    train_epoch(Student.of(module), theta, Optimiser(0.1, 0.0, 0.0), images, LABELS, **options)
    reference = torch.optim.SGD(module.parameters(), lr=0.1)
    for index in torch.randperm(10, generator=stream(0, "a")).split(7):
        reference.zero_grad()
        nn.functional.cross_entropy(module(images[index]), LABELS[index]).backward()
        reference.step()
    assert torch.allclose(theta, vector(module), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", registry.names("trainer"))
def test_trainers_take_as_many_gradients_per_step_as_they_say(name: str) -> None:
    class Counting(Student):
        calls = 0

        def gradient_and_logits(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            Counting.calls += 1
            return super().gradient_and_logits(*inputs)

    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    student = Counting.of(module)
    options = {option: field.default for option, field in registry.options("trainer", name).items()}
    x, p, w = torch.randn(2, 1, 2, 2), torch.full((2, 3), 1 / 3), torch.full((2,), 0.5)
    load(name, **options)(student, vector(module), x, p, w)
    assert Counting.calls == gradients(name)
