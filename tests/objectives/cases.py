"""What the tests of objectives share: a small run's data in float64, and its network as a plain function."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from attcli.objectives import Objective
from attcli.stages import distill, inputs, pipeline
from attcli.stages.run import Run
from attcli.store import experts, states
from tests.objectives.test_real_loss import Twice

PRECISE: dict[str, object] = {"distill__precision": "float64", "distill__storage": "float64", "network__width": 4}


def begun(run: Run, **settings: object) -> tuple[distill.Loop, Objective, states.State, Tensor]:
    """A loop in float64, its objective, with these settings changed afterwards, the first state and its images."""
    pipeline.prepare(run)
    loop, state = distill.begin(run, Twice(inputs.read_dataset(run)), experts.Experts([]))
    objective = loop.objective
    if settings:
        objective._settings = objective._settings.model_copy(update=settings)
    return loop, objective, state, loop.coding.images(state.coded(), state.scales)


def named(module: nn.Module, theta: Tensor) -> dict[str, Tensor]:
    """The parameters in a flat vector, by name."""
    shapes = {name: x.shape for name, x in module.named_parameters()}
    parts = theta.split([shape.numel() for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def outputs_of(module: nn.Module) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    """The outputs of a network by its named parameters and images."""
    return lambda parameters, x: functional_call(module, parameters, (x,))


def close(a: Tensor, b: Tensor, relative: float = 1e-9) -> bool:
    """Whether two tensors differ by no more than so much of the largest number."""
    return torch.allclose(a, b, rtol=0, atol=relative * float(b.abs().max()))
