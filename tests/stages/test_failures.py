"""What is said of a disk or a memory that is too small."""

import errno
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attcli import runtime
from attcli.errors import UserError
from attcli.stages import buffer, failures, jobs
from attcli.stages.run import Run
from tests.conftest import settings_in

FULL_DISK = OSError(errno.ENOSPC, "No space left on device", "work/x")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FULL_DISK, "work/x: No space left on device; fix that and run it again: what was finished is kept"),
        (MemoryError(), "auto has too little memory (MemoryError); choose smaller batches"),
        (
            RuntimeError("pool_backward_cuda does not have a deterministic implementation, but you set torch"),
            "operation (pool_backward_cuda) that may give another result each time on this device; allow it by",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes. GPU"), "auto has too little memory"),
    ],
    ids=["disk", "memory", "no fixed order", "torch's memory"],
)
def test_a_full_disk_or_memory_of_another_process_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def share(*_: object) -> None:
        raise error

    stopped: list[bool] = []
    me: Any = SimpleNamespace(ask_to_stop=lambda: stopped.append(True))
    order = {**jobs._of_run(Run(settings_in(tmp_path))), "stage": "buffer", "details": {}}
    monkeypatch.setattr(buffer, "share", share)
    monkeypatch.setattr(runtime, "configure", lambda *_: None)
    assert said in str(jobs._done(order, jobs.Job(me, 0)))
    assert stopped == [True]
    with pytest.raises(UserError, match=re.escape(said)):
        jobs._done(order, jobs.Job(me, 0, in_step=True))
    error = RuntimeError("a mistake of ours")
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        jobs._done(order, jobs.Job(me, 0))


@pytest.mark.parametrize(
    ("stage", "changes", "remedy"),
    [
        ("buffer", {}, "choose smaller batches (buffer.batch) or another device"),
        ("distill", {}, "choose smaller batches (buffer.batch, distill.batch_syn) or another device"),
        (
            "evaluate",
            {"distill__objective": "cafe"},
            "choose smaller batches (buffer.batch, distill.network_batch, distill.real_per_class, evaluate.batch)",
        ),
        ("evaluate", {"distill__engine": "unroll"}, "set distill.engine=adjoint, which holds one step at a time"),
        ("evaluate", {"distill__engine": "unroll", "distill__objective": "real-loss"}, "distill.real_batch"),
        ("prepare", {}, "; choose another device"),
    ],
)
def test_too_little_memory_names_what_makes_less_of_it(
    tmp_path: Path, stage: str, changes: dict[str, Any], remedy: str
) -> None:
    run = Run(settings_in(tmp_path, **changes))
    assert remedy in str(failures.too_little_memory(MemoryError(), run, stage))
