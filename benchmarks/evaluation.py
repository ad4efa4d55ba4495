"""Five networks trained on one image a class, together, against one after the other."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from attcli import execution
from attcli.scoring.parallel import in_this_thread, trained_apart
from attcli.scoring.protocol import Protocol
from attcli.scoring.testing import accuracy
from attcli.scoring.training import fresh
from attcli.scoring.training import train as train_by_protocol
from benchmarks.problem import CONVNET, DSA, images
from benchmarks.references import train
from benchmarks.timing import compare

REPEATS = 5
PASSES = {"cpu": 40, "cuda": 1000}
TESTED = 500


def run(device: str, rounds: int | None, only: str) -> Iterator[dict[str, Any]]:
    """Training for a number of passes, and the test on 500 images."""
    if only not in "ipc1-repeats5":
        return
    on = torch.device(device)
    x, y = images(10)
    test = tuple(part.to(on) for part in images(TESTED))
    there = x.to(on), y.to(on)
    protocol = Protocol("exact", PASSES[on.type], 256, 0.9, 5e-4, DSA)
    student = execution.student(CONVNET.build, on, "float32")
    work = execution.Work((3, 32, 32), 10, 10, 10)
    begun = time.perf_counter()
    with trained_apart(on):
        step_functions = execution.step_functions(student, CONVNET.build, work, on, "compiled")
    prepared = time.perf_counter() - begun

    def one(repeat: int, stop: Any) -> float:
        key = (0, "benchmark", repeat)
        theta = train_by_protocol(
            in_this_thread(step_functions, on), fresh(CONVNET, key).to(on), *there, 10, 0.01, protocol, key, stop
        )
        return accuracy(in_this_thread(student, on), theta, *test)

    def ours() -> None:
        with trained_apart(on) as each:
            list(each({repeat: partial(one, repeat) for repeat in range(REPEATS)}))

    def reference() -> None:
        for _ in range(REPEATS):
            module = train(CONVNET.build().to(on), x, y, PASSES[on.type], 256, lr=0.01, momentum=0.9, decay=5e-4)
            with torch.no_grad():
                (module(test[0]).argmax(dim=1) == test[1]).sum().item()

    found = compare(ours, reference, rounds or 5)
    found["ours"] |= {"prepared_s": round(prepared, 1), "passes": PASSES[on.type]}
    yield {"name": "evaluation/ipc1-repeats5", **found}
