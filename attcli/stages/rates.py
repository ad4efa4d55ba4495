"""How fast this device is, measured; and how long a cost takes at that rate."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from attcli import execution, runtime
from attcli.errors import UserError
from attcli.execution import Work
from attcli.matching.halving import is_out_of_memory, told
from attcli.settings import Settings
from attcli.stages import inputs
from attcli.stages.cost import Cost, images_about, shape

MEASURED_SECONDS = 0.5
"""How long a rate is measured."""

MATRIX_SIDE = 768
"""Side of the matrices whose product is timed."""


class Rates:
    """Floating-point operations per second of the settings' network on this device, measured when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._device = runtime.device(settings.runtime.device)
        self._network = inputs.architecture(settings.network, images_about(settings))
        self._measured: dict[tuple[int, int], float] = {}
        self._doubles: float | None = None

    def seconds(self, cost: Cost) -> float | None:
        """How long a stage takes; None where that is not known."""
        if cost.seconds is None:
            return None
        return cost.seconds + self._of_network(cost) + (cost.doubles / self._of_doubles() if cost.doubles else 0.0)

    def _of_doubles(self) -> float:
        """Operations in float64 per second, measured on a product of matrices on the CPU."""
        if self._doubles is None:
            matrix = torch.ones((MATRIX_SIDE, MATRIX_SIDE), dtype=torch.float64)
            self._doubles = 2.0 * MATRIX_SIDE**3 / _shortest(lambda: matrix @ matrix)
        return self._doubles

    def _of_network(self, cost: Cost) -> float:
        if not cost.operations:
            return 0.0
        work = Work(shape(self._network), self._network.classes, cost.slice, cost.slice)
        threads = execution.threads(self._settings.runtime.threads, self._network.build, work)
        key = (cost.slice, threads if cost.at_once is None else 1)
        if key not in self._measured:
            self._measured[key] = self._measure(*key)
        return cost.operations / self._measured[key] / (cost.at_once or 1)

    def said(self) -> str:
        """The rates that were measured, and what they are of."""
        rates = " and ".join(dict.fromkeys(f"{rate / 1e9:.2g}" for rate in self._measured.values()))
        return (
            f"at {rates} GFLOP/s, the speed that plain steps of {self._network.name} have just shown on "
            f"{self._device.type}; long runs compile their steps, which is faster"
        )

    def _measure(self, size: int, threads: int) -> float:
        """The rate of steps on so many images, or on fewer where memory is too small. UserError where it is for one."""
        try:
            return self._measure_of(size, threads)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                why = f"{self._device} has too little memory for one image at a time ({told(error)})"
                raise UserError(f"{why}; free some of it, or choose a smaller network or another device") from None
        return self._measure(size // 2, threads)

    def _measure_of(self, size: int, threads: int) -> float:
        student = execution.student(self._network.build, self._device, "float32")
        theta = torch.zeros(student.layout.size, device=self._device)
        x = torch.zeros((size, *shape(self._network)), device=self._device)
        p = torch.full((size, self._network.classes), 1 / self._network.classes, device=self._device)
        w = torch.full((size,), 1 / size, device=self._device)
        work = Work(shape(self._network), self._network.classes, size, size)
        with _threads(threads):
            shortest = _shortest(lambda: student.gradient(theta, x, p, w).norm().item())
        return execution.flops(self._network.build, work) / shortest


def _shortest(call: Callable[[], object]) -> float:
    """The seconds of the fastest of some calls."""
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < MEASURED_SECONDS:
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
