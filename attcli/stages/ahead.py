"""What chance decides in the next iteration is drawn, and read from the disk, while the present one runs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

Drawn = TypeVar("Drawn")


class ReadAhead(Generic[Drawn]):
    """Calls `draw(iteration)` in a thread of its own, one iteration ahead. Draws must depend on the iteration alone."""

    def __init__(self, draw: Callable[[int], Drawn], device: torch.device) -> None:
        self._draw = draw
        self._reader = ThreadPoolExecutor(1, "read-ahead", initializer=_on, initargs=(device,))
        self._coming: dict[int, Future[Drawn]] = {}

    def of(self, iteration: int) -> Drawn:
        """The draws of an iteration; those of the next one are begun. What drawing raises is raised here."""
        coming = self._coming.pop(iteration, None) or self._reader.submit(self._draw, iteration)
        drawn = coming.result()
        self._coming = {iteration + 1: self._reader.submit(self._draw, iteration + 1)}
        return drawn

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.shutdown(cancel_futures=True)


def _on(device: torch.device) -> None:
    """Let a thread pin memory for the card that the run uses, not for the first one."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
