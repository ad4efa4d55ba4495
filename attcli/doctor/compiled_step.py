"""Compiles the steps of a small network on a device and compares them with eager ones, as a run does before it begins.

`python -m attcli.doctor.compiled_step DEVICE` prints what went wrong, or nothing. It is a process of its own, so that a
compiler that crashes or hangs takes nothing else with it.
"""

import sys

from loguru import logger
from torch import nn

from attcli import execution, runtime
from attcli.networks.mlp import build

IMAGE, CLASSES, BATCH = (1, 8, 8), 10, 4


def main(name: str) -> list[str]:
    """The warnings that came while steps were compiled."""
    warnings: list[str] = []
    logger.enable("attcli")
    logger.remove()
    logger.add(lambda message: warnings.append(message.record["message"]), level="WARNING")
    device = runtime.device(name)
    work = execution.Work(IMAGE, CLASSES, BATCH, BATCH, derivatives=True)

    def network() -> nn.Module:
        return build(IMAGE[0], CLASSES, IMAGE[1])

    student = execution.student(network, device, "float32")
    execution.step_functions(student, network, work, device, "compiled")
    return warnings


if __name__ == "__main__":
    print("\n".join(main(sys.argv[1])))
