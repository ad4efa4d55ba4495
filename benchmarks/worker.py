"""One side of a comparison in a process of its own: `python worker.py CHECKOUT ROW WHO ALLOCATOR`, rounds on demand.

CHECKOUT is the folder whose `attcli` is measured, which may be an older one. ROW is matching, expert or scoring; WHO is
ours or reference; ALLOCATOR is kept (freed memory is kept, as attcli does) or default. For every line on stdin it does
the work once, and prints CPU and wall seconds.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])

import torch

import attcli
from attcli import execution, runtime
from attcli.matching import engine
from attcli.matching.batches import SyntheticBatches, plan, probabilities
from attcli.matching.parameters import vector
from attcli.runtime import stream
from attcli.scoring.parallel import in_this_thread, trained_apart
from attcli.scoring.protocol import Protocol
from benchmarks.problem import CONVNET, DSA, images, span
from benchmarks.references import full_unroll, train

try:
    from attcli.scoring.testing import accuracy
    from attcli.scoring.training import fresh
    from attcli.scoring.training import train as train_by_protocol
except ImportError:  # an older checkout
    from attcli.scoring.protocol import accuracy, fresh  # type: ignore[attr-defined, no-redef]
    from attcli.scoring.protocol import train as train_by_protocol  # type: ignore[attr-defined, no-redef]
try:
    from attcli.trainers.training import Optimiser, train_epoch
except ImportError:  # an older checkout
    from attcli.experts.training import Optimiser, train_epoch  # type: ignore[no-redef, import-not-found]

if not Path(attcli.__file__).resolve().is_relative_to(Path(sys.argv[1]).resolve()):
    raise SystemExit(f"{sys.argv[1]} holds no attcli; name the folder of a checkout")

step_functions_of: Any = getattr(execution, "step_functions", None) or execution.steps  # type: ignore[attr-defined]
"""What makes step functions; an older checkout calls it otherwise."""

CPU = torch.device("cpu")
STEPS, EXPERT_IMAGES, PASSES, REPEATS, TESTED = 80, 5_000, 40, 5, 500

Act = Callable[[], object]


def matching(who: str) -> Act:
    """One gradient of the matching loss at N_S 80, ten images."""
    start, target = span()
    x, labels = images(10)
    lr, drawn = torch.tensor(0.01), plan(10, 10, STEPS, DSA, stream(0, "benchmark"))
    if who == "reference":
        batches = list(zip(drawn.indices, drawn.augmentations, strict=True))
        return lambda: full_unroll(CONVNET.build(), start, target, x, labels, lr, batches, STEPS)
    work = execution.Work((3, 32, 32), 10, 10, 10, derivatives=True)
    student = execution.student(CONVNET.build, CPU, "float32")
    step_functions = step_functions_of(student, CONVNET.build, work, CPU, "compiled")
    match, targets = engine.load("adjoint"), probabilities(labels, 10).float()
    return lambda: match(
        step_functions, start, target, SyntheticBatches(x, targets, drawn), lr, lambda distances: STEPS
    )


def expert(who: str) -> Act:
    """An expert's epoch over 5,000 images in batches of 512."""
    x, y = images(EXPERT_IMAGES)
    module = CONVNET.build()
    if who == "reference":
        return lambda: train(module, x, y, 1, 512, lr=0.01, momentum=0.0, decay=0.0)
    theta = vector(module)
    is_older = "filled_up" in execution.Work.__dataclass_fields__
    short: dict[str, Any] = {"filled_up": True} if is_older else {"short": len(x) % 512}
    work = execution.Work((3, 32, 32), 10, 512, len(x), **short)
    student = execution.student(CONVNET.build, CPU, "float32")
    step_functions = step_functions_of(student, CONVNET.build, work, CPU, "compiled")

    def act() -> object:
        options: dict[str, Any] = {"classes": 10, "batch": 512, "strategy": DSA, "generator": stream(0, "benchmark")}
        return train_epoch(step_functions, theta.clone(), Optimiser(0.01, 0.0, 0.0), x, y, **options).tolist()

    return act


def scoring(who: str) -> Act:
    """Five networks on ten images, 40 passes each, and the test of each on 500 images."""
    x, y = images(10)
    test = images(TESTED)
    if who == "reference":

        def plain() -> None:
            for _ in range(REPEATS):
                module = train(CONVNET.build(), x, y, PASSES, 256, lr=0.01, momentum=0.9, decay=5e-4)
                with torch.no_grad():
                    (module(test[0]).argmax(dim=1) == test[1]).sum().item()

        return plain
    protocol = Protocol("exact", PASSES, 256, 0.9, 5e-4, DSA)
    student = execution.student(CONVNET.build, CPU, "float32")
    with trained_apart(CPU):
        step_functions = step_functions_of(
            student, CONVNET.build, execution.Work((3, 32, 32), 10, 10, 10), CPU, "compiled"
        )

    def one(repeat: int, stop: Any) -> float:
        key = (0, "benchmark", repeat)
        mine = in_this_thread(step_functions, CPU)
        theta = train_by_protocol(mine, fresh(CONVNET, key), x, y, 10, 0.01, protocol, key, stop)
        return accuracy(in_this_thread(student, CPU), theta, *test)

    def ours() -> None:
        with trained_apart(CPU) as each:
            list(each({repeat: partial(one, repeat) for repeat in range(REPEATS)}))

    return ours


ROWS: dict[str, Callable[[str], Act]] = {"matching": matching, "expert": expert, "scoring": scoring}


def main() -> None:
    """Prepare, warm up once, say so, and answer."""
    _, _, row, who, allocator = sys.argv
    torch.manual_seed(0)
    if allocator == "kept":
        runtime.keep_freed_memory()
    act = ROWS[row](who)
    act()
    print("ready", flush=True)
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        act()
        print(time.process_time() - cpu, time.perf_counter() - wall, flush=True)


if __name__ == "__main__":
    main()
