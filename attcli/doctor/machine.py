"""The compiler, the cores and the memory."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from attcli.doctor.finding import Finding
from attcli.settings import Settings

COMPILERS = ("g++", "clang++", "c++")
LONGEST_COMPILATION = 300.0
"""Seconds after which compiling counts as hanging."""

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 4e9, 0.5e9
"""Bytes below which larger datasets do not fit, and below which not even torch does."""

EAGER = "without it, steps run eagerly, which is slower in long runs"


def compiler(settings: Settings) -> Finding:
    """The C++ compiler and Python's headers, with which torch compiles steps for a CPU."""
    found = next((path for name in (os.environ.get("CXX"), *COMPILERS) if name and (path := shutil.which(name))), None)
    if found is None:
        return Finding("compiler", "note", f"no C++ compiler; {EAGER}", "install g++ (Debian: apt-get install g++)")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
        remedy = f"install them (Debian: apt-get install {package})"
        return Finding("compiler", "note", f"{found}; Python's headers are missing; {EAGER}", remedy)
    return Finding("compiler", "ok", f"{found}; Python's headers are there")


def compiled_step(settings: Settings) -> Finding:
    """Whether a step of a small network compiles, and computes what an eager one does."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "attcli.doctor.compiled_step", settings.runtime.device]
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}  # what was compiled before shows nothing
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment, timeout=LONGEST_COMPILATION
            )
        except subprocess.TimeoutExpired:
            return _not_compiled(f"compiling takes more than {LONGEST_COMPILATION:.0f} s")
    seconds = time.monotonic() - begun
    if done.returncode:
        return _not_compiled((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    if said := done.stdout.strip():
        return _not_compiled(said.splitlines()[0])
    return Finding("compiled step", "ok", f"compiled and correct, in {seconds:.0f} s")


def _not_compiled(reason: str) -> Finding:
    remedy = "repair the compiler, or set ATTCLI_EXECUTION=eager, so that no run tries it"
    return Finding("compiled step", "note", f"does not work ({reason[:300]}); {EAGER}", remedy)


def threads(settings: Settings) -> Finding:
    """The cores that this process may use, and what keeps it from more."""
    from attcli import runtime

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores, asked = runtime.cores(), settings.runtime.threads
    says = f"{cores} of {os.cpu_count()} cores; runtime.threads is {asked}"
    if omp := os.environ.get("OMP_NUM_THREADS"):
        says += f"; OMP_NUM_THREADS is {omp}"
    quota = _quota()
    if quota is not None and quota < cores:
        says += f"; the container may use {quota:.1f} cores at a time"
        remedy = f"set OMP_NUM_THREADS={max(1, round(quota))}, so that threads do not wait for each other"
        return Finding("threads", "note", says, remedy)
    if cores < usable:
        return Finding("threads", "note", says, f"unset OMP_NUM_THREADS to use all {usable} cores")
    if isinstance(asked, int) and asked > usable:
        return Finding("threads", "note", says, "more threads than cores only wait for each other; use auto")
    return Finding("threads", "ok", says)


def _quota() -> float | None:
    """The cores that a container's limit amounts to."""
    with suppress(OSError, ValueError):
        quota, period = CPU_QUOTA.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    return None


def memory(settings: Settings) -> Finding:
    """The memory that a run may still take, within a container's limit."""
    from attcli import runtime

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _memory_limit()
    held = limit is not None and limit < total
    free = runtime.free_memory()
    if held and limit is not None:
        total, free = limit, min(free, limit)
    says = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free{', the limit of this container' if held else ''}"
    more = "raise the container's limit" if held else "close other programs, or use a larger machine"
    if free < TOO_LITTLE_MEMORY:
        return Finding("memory", "problem", f"{says}; torch alone takes about {TOO_LITTLE_MEMORY / 1e9:.1f} GB", more)
    if free < LITTLE_MEMORY:
        return Finding("memory", "note", says, f"`--dry-run` says what a command needs; if it is more, {more}")
    return Finding("memory", "ok", says)


def _memory_limit() -> int | None:
    """The bytes that a container may take, by either version of the kernel's control groups."""
    for path in MEMORY_LIMITS:
        with suppress(OSError, ValueError):
            return int(path.read_text())
    return None
