"""The step functions replayed as CUDA graphs: one launch a step instead of hundreds."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attcli.matching.step_functions import Derivatives, StepFunctions

WARM_UP = 3

KEPT = 4
"""Recordings that are kept, each with memory of its own: those asked for last, as g and h of full and short batches."""


@dataclass(frozen=True)
class Recording:
    """A captured graph with the tensors that it reads and those that it writes."""

    graph: "torch.cuda.CUDAGraph"
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor | None, ...]

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        """Run it on these inputs; the outputs are overwritten by the next replay."""
        for kept, value in zip(self.inputs, inputs, strict=True):
            kept.copy_(value, non_blocking=True)
        self.graph.replay()
        return self.outputs


def record(function: Callable[..., tuple[Tensor | None, ...]], inputs: tuple[Tensor, ...]) -> Recording:
    """Capture `function` for inputs of these shapes, after warming up as capturing demands."""
    kept = tuple(value.detach().clone() for value in inputs)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            function(*kept)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*CUDA Graph is empty.*")
        # Meanwhile another thread may pin memory for draws that it reads ahead: only this thread's calls are looked at.
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            outputs = function(*kept)
    return Recording(graph, kept, outputs)


@dataclass
class Graphed:
    """StepFunctions whose functions are captured at their first call for a shape, and replayed from then on."""

    step_functions: StepFunctions
    _recordings: dict[tuple[object, ...], Recording] = field(default_factory=dict)

    def _run(
        self, name: str, function: Callable[..., tuple[Tensor | None, ...]], *inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        key = (name, *(value.shape for value in inputs))
        recording = self._recordings.pop(key, None) or record(function, inputs)
        self._recordings[key] = recording  # as the last one
        if len(self._recordings) > KEPT:
            del self._recordings[next(iter(self._recordings))]
        return recording.replay(inputs)

    def apart(self) -> "Graphed":
        """New recordings: a replay writes to its recording's own tensors."""
        return Graphed(self.step_functions.apart())

    def loss(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The loss, eager."""
        return self.step_functions.loss(theta, x, p, w)

    def gradient_and_logits(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient g (P,) and the outputs (B, K)."""
        outputs: Any = self._run("g", self.step_functions.gradient_and_logits, theta, x, p, w)
        return outputs[0], outputs[1]

    def gradient(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The gradient g (P,)."""
        return self.gradient_and_logits(theta, x, p, w)[0]

    def derivatives(
        self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor, *, labels: bool = False
    ) -> Derivatives:
        """The inner product <g, lam> and its derivatives."""

        def h(*inputs: Tensor) -> tuple[Tensor | None, ...]:
            return tuple(self.step_functions.derivatives(*inputs, labels=labels))

        outputs: Any = self._run(f"h{labels}", h, theta, x, p, w, lam)
        return Derivatives(*outputs)
