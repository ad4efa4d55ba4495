"""`python -m tests.fuzz [--seed N] [--share X] [--only WORD] [--json FILE]`: cases of all kinds, and a record of them.

Each kind runs in a process of its own, whose memory is limited. A process that ends by a signal, or that is silent for
too long, is a finding too: the case that it was at is kept, and the others go on with another seed.
"""

import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from attcli import __version__, progress, runtime
from tests.fuzz.bases import make
from tests.fuzz.child import CPU_SECONDS, MEMORY, SHOWN
from tests.fuzz.kinds import Kind, all_kinds

BATCH = 1000
"""Cases that a process runs before a new one takes over."""

SILENT_SECONDS = 180
"""A process that begins no new case for so long hangs."""


def batch(name: str, seed: int, cases: int, bases: Path, folder: Path) -> dict[str, Any]:
    """What a process says of its cases; a finding of its own where it does not come to its end."""
    words = [sys.executable, "-m", "tests.fuzz.child", name, str(seed), str(cases), str(bases), str(folder)]
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        process = subprocess.Popen(words, stdout=out, stderr=err)
        current, silent = folder / "case", False
        while process.poll() is None and not silent:
            time.sleep(0.2)
            last = current.stat().st_mtime if current.exists() else time.time()
            silent = time.time() - last > SILENT_SECONDS
        if silent:
            process.kill()
            process.wait()
        out.seek(0)
        err.seek(0)
        lines, told = out.read().decode().splitlines(), err.read().decode(errors="replace")
    if not silent and process.returncode == 0 and lines:
        return dict(json.loads(lines[-1]))
    how = "silence" if silent else f"exit code {process.returncode}"
    case = repr(pickle.loads(current.read_bytes()))[:SHOWN] if current.exists() else ""
    return {"found": {f"the process ended by {how}": {"times": 1, "says": told[-300:], "case": case}}}


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The batches of a kind together."""
    total: dict[str, Any] = {"accepted": 0, "refused": 0, "longest_cpu_s": 0.0, "peak_mb": 0, "found": {}}
    for part in parts:
        for key in ("accepted", "refused"):
            total[key] += part.get(key, 0)
        for key in ("longest_cpu_s", "peak_mb"):
            total[key] = max(total[key], part.get(key, 0))
        for place, entry in part["found"].items():
            kept = total["found"].setdefault(place, {**entry, "times": 0})
            kept["times"] += entry["times"]
    return total


def cases_of(name: str, kind: Kind, seed: int, share: float, kept: Path, folder: Path) -> dict[str, Any]:
    """What came of all cases of a kind, which is also printed."""
    begun, left, parts = time.monotonic(), max(1, round(kind.cases * share)), []
    while left > 0:
        where = Path(tempfile.mkdtemp(dir=folder))
        parts.append(batch(name, seed * 1000 + len(parts), min(BATCH, left), kept, where))
        left -= BATCH
    result = {**merged(parts), "wall_s": round(time.monotonic() - begun, 1)}
    told = [f"{name:30} { ({key: value for key, value in result.items() if key != 'found'}) }"]
    for place, finding in result["found"].items():
        told.append(f"  FOUND {place} ({finding['times']} times): {finding['says']}\n    {finding['case']}")
    typer.echo("\n".join(told))
    return result


def main(
    seed: Annotated[int, typer.Option(help="The seed that all cases follow from.")] = 0,
    share: Annotated[float, typer.Option(help="The part of each kind's cases that is run.")] = 1.0,
    jobs: Annotated[int, typer.Option(help="Kinds that are run at once.")] = 1,
    only: Annotated[str, typer.Option(help="Only kinds whose names contain this.")] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the record is written.")] = None,
) -> None:
    """Run cases of all kinds; exit code 1 where one of them ends otherwise than it should."""
    progress.configure("quiet")
    runtime.configure(1, deterministic=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bases = make(folder / "bases")
        kept = folder / "bases.pickle"
        kept.write_bytes(pickle.dumps(bases))
        every = {kind: entry for kind, entry in all_kinds(bases).items() if only in kind}
        with ThreadPoolExecutor(jobs) as pool:
            results = pool.map(lambda pair: cases_of(*pair, seed, share, kept, folder), every.items())
            kinds = dict(zip(every, results, strict=True))
    counts = {key: sum(kind[key] for kind in kinds.values()) for key in ("accepted", "refused")}
    cases = sum(counts.values())
    found = sum(len(kind["found"]) for kind in kinds.values())
    typer.echo(f"{cases} cases, of which {counts['refused']} were refused in a line; {found} findings")
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m tests.fuzz --seed {seed}" + (f" --share {share}" if share != 1 else ""),
        "version": __version__,
        "machine": {
            "cpu": runtime.cpu_model(),
            "python": platform.python_version(),
            "load": round(os.getloadavg()[0], 1),
        },
        "limits": {"cpu_s_per_case": CPU_SECONDS, "memory_mb_beside_the_process": MEMORY >> 20},
        "wall_s": round(time.monotonic() - begun, 1),
        "cases": cases,
        **counts,
        "kinds": kinds,
    }
    if json_file:
        json_file.write_text(json.dumps(record, indent=2) + "\n")
    raise typer.Exit(1 if found else 0)


if __name__ == "__main__":
    typer.run(main)
