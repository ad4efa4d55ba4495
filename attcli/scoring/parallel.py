"""Many small networks trained side by side.

On a CPU each training keeps to one core and several run at once: splitting a batch of a few images among cores costs
more than it gains. So a network's result does not depend on how many cores there are, nor, where the same execution is
picked for them, on how many networks are trained.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

from attcli.signals import STOPPING, held

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Job = Callable[[Callable[[], bool]], V]
"""A training: it is handed a function that says whether to stop early, and raises when it does."""


class _Separable(Protocol):
    def apart(self) -> Any:
        """The same for another thread."""


S = TypeVar("S", bound=_Separable)


def in_this_thread(shared: S, device: torch.device) -> S:
    """What a training may use of what all share: its own on a CPU, where several run at once; the same on a GPU."""
    return shared.apart() if device.type == "cpu" else shared


@contextmanager
def trained_apart(
    device: torch.device, cores: int | None = None
) -> Iterator[Callable[[Mapping[K, Job[V]]], Iterator[tuple[K, V]]]]:
    """A function that runs jobs and yields each one's key and result as soon as it is there.

    `cores` jobs run at once on a CPU; by default as many as torch uses threads. Inside, this thread too computes on one
    core of a CPU. Whatever ends the iteration early stops the jobs first.
    """
    before = torch.get_num_threads()
    cores = cores or before
    if device.type != "cpu":
        yield _in_turn
        return
    torch.set_num_threads(1)
    stop = threading.Event()
    pool = ThreadPoolExecutor(cores, "training", initializer=torch.set_num_threads, initargs=(1,))

    def each(jobs: Mapping[K, Job[V]]) -> Iterator[tuple[K, V]]:
        keys = {pool.submit(job, stop.is_set): key for key, job in jobs.items()}
        for done in as_completed(keys):
            yield keys[done], done.result()

    try:
        yield each
    finally:
        with held(STOPPING):  # the jobs save first; another Ctrl-C ends all at once
            pool.shutdown(
                wait=False, cancel_futures=True
            )  # before what runs ends, or a waiting job would take its place
            stop.set()
            pool.shutdown()
        torch.set_num_threads(before)


def _in_turn(jobs: Mapping[K, Job[V]]) -> Iterator[tuple[K, V]]:
    for key, job in jobs.items():
        yield key, job(lambda: False)
