"""Going on with fewer images at a time where the device's memory is too small for as many as were taken.

What is computed is pure, so that a call that failed is made again. Slices change a result by rounding alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import RLock
from typing import TypeVar

import torch
from torch import Tensor

from attcli.errors import UserError
from attcli.matching.microbatch import sliced
from attcli.matching.step_functions import Derivatives, StepFunctions

T = TypeVar("T")

_MAKING = RLock()
"""Held while steps are made or copied: a network must not be copied while a thread computes with it."""

NO_ROOM = "can't allocate memory"
"""What torch says, in an error of no class of its own, where the memory of the machine is too small."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or the one that it came from, says that memory is too small."""
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or NO_ROOM in str(error):
            return True
        error = error.__context__
    return False


def told(error: BaseException) -> str:
    """What such an error says, in few words; torch's go on with advice for programmers."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].partition(". GPU")[0][:200]


@dataclass
class Room:
    """How many images fit into the memory of `device`: `size`, which is halved for good whenever they turn out not to.

    batch: images in a batch; least: as few as may be taken at a time, the whole batch where a network normalises over
    it. warn: told of each halving, in a line.
    """

    size: int
    batch: int
    least: int
    device: str
    warn: Callable[[str], None]

    def fitting(self, act: Callable[[int], T]) -> T:
        """What `act` returns for a number of images that fit. UserError where not even the fewest do."""
        while True:
            try:
                return act(self.size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = told(error)
            # The handler is left before anything is tried anew: its traceback holds the tensors of the failed call.
            self.size = self._half(reason)

    def _half(self, reason: str) -> int:
        images = "one image" if self.size == 1 else f"{self.size} images"
        too_little = f"{self.device} has too little memory for {images} at a time ({reason})"
        if self.size <= self.least:
            remedy = "free some of it, or choose a smaller network or another device"
            if self.least > 1:
                remedy = (
                    "the network normalises over the batch, which can't be cut: choose smaller batches, or another one"
                )
            raise UserError(f"{too_little}; {remedy}")
        half = sliced(self.batch, self.size // 2)
        self.warn(
            f"{too_little}; going on with {half}, which changes results by rounding alone; --set "
            f"runtime.micro_batch={half} begins with so many"
        )
        return half


@dataclass
class Halving:
    """Steps in slices of as many images as there is room for.

    of_slices: makes the steps for a size. UserError where there is no room for the fewest that may be.
    """

    of_slices: Callable[[int], StepFunctions]
    room: Room
    _made: tuple[int, StepFunctions] | None = None

    def __post_init__(self) -> None:
        self._fitting(lambda step_functions: None)

    @property
    def size(self) -> int:
        """The images of a slice, at present."""
        return self.room.size

    @property
    def step_functions(self) -> StepFunctions:
        """The steps for the size at present."""
        return self._of(self.room.size)

    def _of(self, size: int) -> StepFunctions:
        if self._made is None or self._made[0] != size:
            self._made = None  # those of another size are let go first
            self._made = size, self.of_slices(size)
        return self._made[1]

    def _fitting(self, act: Callable[[StepFunctions], T]) -> T:
        return self.room.fitting(lambda size: act(self._of(size)))

    def apart(self) -> "Halving":
        """The same for another thread, which halves by itself; what it makes anew is its own too."""

        def of_slices(size: int) -> StepFunctions:
            with _MAKING:
                return self.of_slices(size).apart()

        with _MAKING:
            made = self.size, self.step_functions.apart()
        return Halving(of_slices, replace(self.room), made)

    def loss(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The loss of the whole batch, of which no slices are taken."""
        return self.step_functions.loss(theta, x, p, w)

    def gradient(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """The gradient g (P,)."""
        return self._fitting(lambda steps: steps.gradient(theta, x, p, w))

    def gradient_and_logits(self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient g (P,) and the outputs (B, K)."""
        return self._fitting(lambda steps: steps.gradient_and_logits(theta, x, p, w))

    def derivatives(
        self, theta: Tensor, x: Tensor, p: Tensor, w: Tensor, lam: Tensor, *, labels: bool = False
    ) -> Derivatives:
        """The inner product <g, lam> and its derivatives."""
        return self._fitting(lambda steps: steps.derivatives(theta, x, p, w, lam, labels=labels))
