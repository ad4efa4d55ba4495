"""The other processes of this machine that share a command's work: started, watched, ended (`runtime.workers`)."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from attcli import ranks
from attcli.ranks import LostError, Ranks

END_SECONDS = 20
"""How long rank 0 waits for the processes that it started to end."""


def of_workers(workers: int) -> dict[str, str]:
    """The environment of rank 0 of so many processes on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cores = max(1, (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
    return {
        "RANK": "0",
        "WORLD_SIZE": str(workers),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": str(workers),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // workers)),
    }


@contextmanager
def started(count: int) -> Iterator[Ranks]:
    """Start the other ranks on this machine; what rank 0 does in here, they share. Within ranks, nothing is started.

    `attcli.stages.jobs` tells them when the work is over. They also end when rank 0 does, as their connection to it is
    cut then.
    """
    if count == 1 or ranks.current().several:
        yield ranks.current()
        return
    environment = of_workers(count)
    others: list[subprocess.Popen[bytes]] = []

    def watch() -> None:
        ended = [(rank, other.poll()) for rank, other in enumerate(others, start=1) if other.poll() is not None]
        if ended:
            rank, code = ended[0]
            raise LostError(f"process {rank} of {count} has ended (exit code {code}); run it again: it goes on")

    before = {name: os.environ.get(name) for name in environment}
    try:
        for rank in range(1, count):
            own = {**os.environ, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            words = [sys.executable, *_as_here(), "-m", "attcli"]
            others.append(subprocess.Popen(words, env=own, stdin=subprocess.DEVNULL))
        os.environ.update(environment)
        with ranks.joined(ranks.of(environment), watch) as joined:
            yield joined
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _end(others)


def _as_here() -> list[str]:
    """What lets another Python look for modules where this one does: in the current folder only if this one does."""
    return [] if not sys.flags.safe_path and {"", os.getcwd()} & set(sys.path) else ["-P"]


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until the processes have ended, and end those that do not."""
    until = time.monotonic() + END_SECONDS
    for process in processes:
        try:
            process.wait(timeout=max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
