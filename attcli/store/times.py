"""times.jsonl: what each invocation of a stage took, a line of JSON each, in the stage's work folder.

It is provenance: no part of an identity, and in no artefact. The lines of a run that was resumed add up. A process that
is killed at once, as by SIGKILL, leaves no line.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from attcli import ranks, runtime
from attcli.errors import UserError
from attcli.store.files import append_synced

NAME = "times.jsonl"

_is_measuring: ContextVar[bool] = ContextVar("is_measuring", default=False)
"""Whether a stage is being measured already: what it does in a second work folder is part of its time."""


@contextmanager
def measured(folder: Path, device: str) -> Iterator[None]:
    """Add a line to the folder's file that says what the work inside took, however it ends.

    CPU seconds are those of all threads, of processes that were started and have ended, and of those that share the
    work; wall seconds those of the clock. `device` is the one of the settings. Inside another such measurement nothing
    is written. OSError where the line cannot be written.
    """
    if _is_measuring.get():
        yield
        return
    token = _is_measuring.set(True)
    began, cpu, wall = datetime.now(UTC), _cpu_seconds(), time.perf_counter()
    try:
        yield
    finally:
        _is_measuring.reset(token)
        line = {
            "began": began.isoformat(timespec="seconds"),
            "cpu_s": round(_cpu_seconds() - cpu, 3),
            "wall_s": round(time.perf_counter() - wall, 3),
            "attcli": {"version": runtime.versions()["attcli"], "commit": commit()},
            "machine": _machine(device),
            **({"processes": ranks.current().size} if ranks.current().several else {}),
        }
        _append(folder / NAME, line)


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of a work folder, oldest first; none where it has none. A line that is damaged is left out."""
    path = folder / NAME
    lines = []
    for text in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
            lines.append({**line, "cpu_s": float(line["cpu_s"]), "wall_s": float(line["wall_s"])})
        except (ValueError, KeyError, TypeError):
            continue
    return lines


def _append(path: Path, line: dict[str, Any]) -> None:
    """Append a line; what a full disk left of the one before it gets a line of its own."""
    kept = path.read_bytes() if path.is_file() else b""
    torn = b"\n" if kept and not kept.endswith(b"\n") else b""
    append_synced(path, torn + json.dumps(line).encode() + b"\n")


def _cpu_seconds() -> float:
    """The CPU seconds of this process so far, of those that it waited for, and of those that share its work."""
    used = os.times()
    return time.process_time() + used.children_user + used.children_system + ranks.current().spent


def _machine(device: str) -> dict[str, Any]:
    """What the work ran on."""
    machine = {"cpu": runtime.cpu_model(), "cores": runtime.cores(), "threads": torch.get_num_threads()}
    try:
        used = runtime.device(device)
    except UserError:  # preparing needs no device, and so does not refuse one that is not there
        return {**machine, "device": "cpu"}
    gpu = {"gpu": torch.cuda.get_device_name(used)} if used.type == "cuda" else {}
    return {**machine, "device": str(used), **gpu}


@cache
def commit() -> str | None:
    """The commit of the checkout that attcli runs from, with `-dirty` where it is changed; None where it is none."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():  # a folder above may be a checkout of something else
        return None
    words = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        told = subprocess.run(words, cwd=checkout, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None
