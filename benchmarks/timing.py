"""Alternating rounds, medians, and the peak memory of a process of its own."""

import multiprocessing
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from attcli import runtime
from attcli.runtime import cpu_model, keep_freed_memory
from attcli.settings import resolve


def machine(device: torch.device | str) -> dict[str, Any]:
    """What the figures were measured on; `auto` is the device that commands take here, as ATTCLI_DEVICE says."""
    if device == "auto":
        device = resolve({}, ignore_params=True).settings.runtime.device
    device = runtime.device(device) if isinstance(device, str) else device
    found = {"device": str(device), "cpu": cpu_model(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return {**found, "python": platform.python_version()}


def _finish() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of one call."""
    _finish()
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    _finish()
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(ours: Callable[[], object], reference: Callable[[], object], rounds: int) -> dict[str, Any]:
    """CPU and wall seconds of both, in turn, as medians after a warm-up; and their ratios, round by round."""
    ours()
    reference()
    taken: dict[str, list[tuple[float, float]]] = {"ours": [], "reference": []}
    for _ in range(rounds):
        for name, act in (("ours", ours), ("reference", reference)):
            taken[name].append(timed(act))
    pairs = list(zip(taken["ours"], taken["reference"], strict=True))
    found: dict[str, Any] = {
        f"{kind}_ratio": round(median(a[i] / b[i] for a, b in pairs), 4) for i, kind in enumerate(("cpu", "wall"))
    }
    for name, times in taken.items():
        found[name] = {f"{kind}_s": round(median(t[i] for t in times), 4) for i, kind in enumerate(("cpu", "wall"))}
    return {**found, "rounds": rounds}


def _measure(prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...], threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    act = prepare(*arguments)
    act()
    if torch.cuda.is_initialized():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        act()
        pipe.send(torch.cuda.max_memory_allocated() - before)
        return
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def read(name: str) -> int:
        (line,) = [line for line in status.read_text().splitlines() if line.startswith(name)]
        return int(line.split()[1]) * 1024

    _return_freed_memory()
    clear.write_text("5")
    before = read("VmRSS")
    act()
    pipe.send(read("VmHWM") - before)


def _return_freed_memory() -> None:
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_memory(prepare: Callable[..., Callable[[], object]], *arguments: object) -> int:
    """Bytes that `prepare(*arguments)()` takes at its peak, above what its process held before it (Linux, or a GPU).

    Measured at the second call, in a process of its own, so that what the first one sets up is not counted.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(prepare, arguments, torch.get_num_threads(), sender))
    process.start()
    sender.close()
    try:
        return int(receiver.recv())
    finally:
        process.join()
