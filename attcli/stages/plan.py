"""What the stages of a plan need together, beside what this machine has."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from attcli import runtime
from attcli.progress import duration
from attcli.stages.cost import Cost, size_in_words
from attcli.stages.run import Run
from attcli.store.files import nearest_existing

LEAST = 1e6
"""Fewer bytes than so many are told as this number, as small files were not counted."""


TOO_MUCH = "MORE THAN"
"""How a plan says that there is not enough of something."""


@dataclass(frozen=True)
class Plan:
    """A stage's plan in words, and what it costs; no cost where nothing is left to do. disk: bytes that it writes."""

    words: str
    cost: Cost | None = None
    disk: float = 0.0


def total(run: Run, plans: Mapping[str, Plan], seconds: float) -> str:
    """One line: disk that all stages write and memory that the largest takes, with what is free of both, and time.

    plans: those of stages that have something to do, by their names; seconds: how long their known operations take.
    """
    disk = sum(plan.disk for plan in plans.values())
    memory = max(plan.cost.memory for plan in plans.values() if plan.cost)
    left_out = [stage for stage, plan in plans.items() if plan.cost and plan.cost.seconds is None]
    free_disk = shutil.disk_usage(nearest_existing(run.settings.runtime.work_dir)).free
    words = [_needed(disk, free_disk, "disk"), _memory(run, memory)]
    if seconds:
        without = f" without {', '.join(left_out)}" if left_out else ""
        words.append(f"about {duration(seconds)}{without}")
    else:
        words.append("a time that is not estimated")
    return ", ".join(words)


def _needed(count: float, free: float, what: str) -> str:
    size = f"about {size_in_words(count)}" if count >= LEAST else f"less than {size_in_words(LEAST)}"
    if count > free:
        return f"{size} of {what}, {TOO_MUCH} the {size_in_words(free)} that are free"
    return f"{size} of {what} ({size_in_words(free)} are free)"


def _memory(run: Run, count: float) -> str:
    """The memory of the device, and of the machine where the device is a CPU."""
    device = runtime.device(run.settings.runtime.device)
    if device.type == "cuda":
        return _needed(count, torch.cuda.mem_get_info(device)[0], f"memory of {device}")
    return _needed(count, runtime.free_memory(), "memory")
