"""Devices, threads and random streams."""

import ctypes
import hashlib
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from threading import Lock, Timer
from types import FrameType
from typing import TypeVar

import torch

from attcli import ranks
from attcli.errors import SignalledError, UserError
from attcli.signals import STOPPING

T = TypeVar("T")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's names for how much free memory at the heap's end, and how large a freed block, goes back to the system."""

_global_generator = Lock()
"""Held while torch's global generator is seeded: threads that build networks must not draw each other's numbers."""


def device(name: str) -> torch.device:
    """The device of that name, made the current one; `auto` is a GPU if there is one. UserError if it can't be had.

    Where several processes share the work, each has a GPU of its own.
    """
    name = ranks.device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(name)
        available = wanted.type in ("cpu", "cuda")
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError, ImportError):
        available = False
    if not available:
        raise UserError(f"device {name!r} is not available here ({_why(name)}); use --device {_instead()}")
    if wanted.type == "cuda" and wanted.index is not None:
        torch.cuda.set_device(wanted)
    return wanted


def described(name: str) -> str:
    """The device that a setting means, in words, with the reason where it is not a GPU."""
    meant = device(name)
    if meant.type == "cuda":
        return f"{meant} ({torch.cuda.get_device_name(meant)})"
    reason = f", as {_why('cuda')}" if name == "auto" else ""
    return f"cpu ({cores()} core{'' if cores() == 1 else 's'}{reason})"


def _why(name: str) -> str:
    """Why a device can't be had."""
    if not name.startswith("cuda"):
        return "attcli computes on CPUs and on CUDA GPUs"
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    count = torch.cuda.device_count()
    if has_unusable_gpu():
        return f"there is a GPU, but torch can't use it ({_what_cuda_says()})"
    return f"there are {count} GPUs" if count else "no GPU or no driver is seen; a container needs --gpus all"


def has_unusable_gpu() -> bool:
    """Whether a GPU is seen that this torch can't use: most often because it was built for a newer driver."""
    return torch.cuda.device_count() > 0 and not torch.cuda.is_available()


def _what_cuda_says() -> str:
    """Why CUDA can't be used, as far as it says it."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split()).partition(" Please ")[0][:300]
        return f"{said.rstrip('.')}; this torch is for CUDA {torch.version.cuda}"
    return f"this torch is for CUDA {torch.version.cuda}"


def _instead() -> str:
    if has_unusable_gpu():
        return "cpu; or, where the driver is too old, update it or install a torch for an older CUDA"
    count = torch.cuda.device_count()
    return f"cpu, auto or cuda:0{f' to cuda:{count - 1}' if count > 1 else ''}" if count else "cpu or auto"


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next tensor: to map it anew costs up to 40 % of a step's time on a CPU.

    Elsewhere, and where the user has set MALLOC_* variables, nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**30)


def cores() -> int:
    """The CPU cores that this process may use: no more than the first number of OMP_NUM_THREADS."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(allowed, int(wanted)) if wanted.isdecimal() and int(wanted) else allowed


def cpu_model() -> str:
    """The name of the CPU as the system tells it."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return platform.processor() or platform.machine()


def free_memory() -> int:
    """The bytes of memory that this process may still take: what the machine has left, within a container's limit."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free = min(free, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return max(0, free)


def configure(threads: int | str | None, deterministic: bool) -> None:
    """Set torch's CPU threads where a number is given, let it keep freed memory, and make kernels reproducible."""
    keep_freed_memory()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of CUDA's files without a GPU
    if isinstance(threads, int):
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    # What `use_deterministic_algorithms` does for eager kernels. That one also imports the compiler, which takes two
    # seconds; compiled.py calls it before it compiles.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


AGAIN_SECONDS = 0.01
"""An interruption that Python dropped comes again after so long, when what dropped it is over."""


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGUSR1 interrupt as Ctrl-C does, so that what is done is saved.

    Python drops an exception that comes up in a weak reference's callback or in a finaliser. An interruption that was
    dropped so is sent again. Other packages (pydantic) make errors of their own of any exception that comes up in a
    function which they call. Whatever else ends the work after an interruption counts as that interruption, but for a
    UserError.
    """
    sending = False
    came: list[KeyboardInterrupt] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not sending:  # else the same is being sent again
            came.append(SignalledError())
            raise came[-1]

    def interrupt_by_ctrl_c(number: int, frame: FrameType | None) -> None:
        came.append(KeyboardInterrupt())
        if callable(by_ctrl_c):
            by_ctrl_c(number, frame)

    def not_raised(dropped: "sys.UnraisableHookArgs") -> None:
        nonlocal sending
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            tell(dropped)
            return
        sending = True  # what is raised here would be dropped, too
        number = signal.SIGTERM if isinstance(dropped.exc_value, SignalledError) else signal.SIGINT
        again = Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        sending = False
        if number == signal.SIGINT and callable(by_ctrl_c):
            signal.signal(number, interrupt_by_ctrl_c)  # which may raise only once

    by_ctrl_c = signal.getsignal(signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in STOPPING}
    if callable(by_ctrl_c):
        signal.signal(signal.SIGINT, interrupt_by_ctrl_c)
    tell, sys.unraisablehook = sys.unraisablehook, not_raised
    try:
        yield
    except UserError:  # which may be the reason why other processes sent a signal
        raise
    except Exception as error:
        if came:
            raise came[0] from error
        raise
    finally:
        sys.unraisablehook = tell
        if signal.getsignal(signal.SIGINT) is interrupt_by_ctrl_c:
            signal.signal(signal.SIGINT, by_ctrl_c)
        for number, handler in before.items():
            signal.signal(number, handler)


def _key(seed: int, purpose: str, *indices: int) -> int:
    text = "/".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stream(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A CPU stream of random numbers that depends on its key alone, not on what was drawn before elsewhere."""
    return torch.Generator().manual_seed(_key(seed, purpose, *indices))


def seeded(make: Callable[[], T], seed: int, purpose: str, *indices: int) -> T:
    """`make()`, with torch's global CPU generator seeded by the key while it runs and restored afterwards."""
    with _global_generator, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_key(seed, purpose, *indices))
        return make()


def versions() -> dict[str, str]:
    """The software that a result was computed with: provenance, never part of an identity."""
    packages = {name: version(name) for name in ("attcli", "torch", "torchvision", "h5py", "numpy")}
    return {**packages, "python": platform.python_version()}
