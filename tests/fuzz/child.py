"""`python -m tests.fuzz.child KIND SEED CASES BASES FOLDER`: a process that runs cases of one kind, within limits.

Its last line says as JSON what came of them. Before each case it is written to FOLDER/case, so that the process that
began this one knows what it was at when it ended otherwise.
"""

import json
import pickle
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as of_hypothesis

from attcli import progress
from tests.fuzz.bases import Bases
from tests.fuzz.kinds import Kind, all_kinds
from tests.fuzz.verdict import HangError, ending, within

CPU_SECONDS = 10.0
"""The processor's time that a case may take."""

MEMORY = 1 << 30
"""Bytes of address space that a case may take beyond what the process had before."""

SHOWN = 600
"""Characters of a case that a record shows."""


def limit_memory() -> None:
    """Let the process have no more than `MEMORY` beside what it has: more is a MemoryError, and thus found."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


class Report:
    """What came of the cases so far."""

    def __init__(self) -> None:
        self.endings = {"accepted": 0, "refused": 0}
        self.findings: dict[str, dict[str, Any]] = {}
        self.longest = 0.0

    def add(self, error: BaseException, case: Any) -> None:
        """Note what a case ended in; the same error at the same place is counted."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/attcli/" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside"
        name = f"{type(error).__name__} at {place}"
        entry = self.findings.setdefault(name, {"times": 0, "says": str(error)[:300], "case": repr(case)[:SHOWN]})
        entry["times"] += 1

    def as_dict(self) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            **self.endings,
            "longest_cpu_s": round(self.longest, 2),
            "peak_mb": peak // 1024,
            "found": self.findings,
        }


def run(kind: Kind, key: int, cases: int, bases: Bases, folder: Path) -> Report:
    """Run so many cases of a kind, drawn with this seed."""
    report, current = Report(), folder / "case"

    @seed(key)
    @of_hypothesis(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.drawn)
    def each(case: Any) -> None:
        current.write_bytes(pickle.dumps(case))
        begun = time.process_time()
        try:
            with within(CPU_SECONDS):
                report.endings[ending(lambda: kind.act(case, folder, bases))] += 1
        except (Exception, HangError) as error:
            report.add(error, case)
        report.longest = max(report.longest, time.process_time() - begun)

    each()
    return report


def main() -> None:
    """Run what the command line names."""
    name, key, cases, kept, where = sys.argv[1:]
    bases: Bases = pickle.loads(Path(kept).read_bytes())
    progress.configure("quiet")
    kind = all_kinds(bases)[name]
    limit_memory()
    report = run(kind, int(key), int(cases), bases, Path(where))
    print(json.dumps(report.as_dict()))


if __name__ == "__main__":
    main()
