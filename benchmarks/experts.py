"""An expert's epoch over 5,000 images against a DataLoader's, each batch augmented on the host."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from attcli import execution
from attcli.matching.parameters import vector
from attcli.runtime import stream
from attcli.trainers.training import Optimiser, train_epoch
from benchmarks.problem import CONVNET, DSA, images
from benchmarks.references import train
from benchmarks.timing import compare

COUNT = {"cpu": 5_000, "cuda": 50_000}
BATCH = 512


def run(device: str, rounds: int | None, only: str) -> Iterator[dict[str, Any]]:
    """The epoch, compiled and eager."""
    on = torch.device(device)
    x, y = images(COUNT[on.type])
    there = x.to(on), y.to(on)
    student = execution.student(CONVNET.build, on, "float32")
    work = execution.Work((3, 32, 32), 10, BATCH, len(x), short=len(x) % BATCH)
    module = CONVNET.build().to(on)
    theta = vector(module)
    for asked in ("compiled", "graph" if on.type == "cuda" else "eager"):
        if only not in f"epoch-{asked}":
            continue
        begun = time.perf_counter()
        step_functions = execution.step_functions(student, CONVNET.build, work, on, asked)
        prepared = time.perf_counter() - begun

        def ours(step_functions: Any = step_functions) -> None:
            options = {"classes": 10, "batch": BATCH, "strategy": DSA, "generator": stream(0, "benchmark")}
            train_epoch(step_functions, theta.clone(), Optimiser(0.01, 0.0, 0.0), *there, **options).tolist()  # type: ignore[arg-type]

        found = compare(ours, lambda: train(module, x, y, 1, BATCH, lr=0.01, momentum=0.0, decay=0.0), rounds or 3)
        found["ours"] |= {"prepared_s": round(prepared, 1), "images": len(x)}
        yield {"name": f"experts/epoch-{asked}", **found}
