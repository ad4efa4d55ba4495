"""`python -m tests.golden`: compute the golden arrays anew, after a change that is meant to alter them.

Raise the stage's number in `attcli.stages.identity.ALGORITHM` first, and say in the commit what changed. With
`--missing` only the arrays of new cases are computed, and those that are there stay.
"""

import sys
import tempfile
from pathlib import Path

import torch

from attcli import progress
from attcli.stages.identity import ALGORITHM
from tests.golden.runs import cases, read, write
from tests.golden.test_golden import GOLDEN

torch.set_num_threads(1)
progress.configure("quiet")
with tempfile.TemporaryDirectory() as folder:
    kept = read(GOLDEN)[1] if "--missing" in sys.argv else {}
    wanted = {f"{stage}/{name}": compute for stage, name, compute in cases(Path(folder))}
    write(GOLDEN, ALGORITHM, {name: kept.get(name) or compute() for name, compute in wanted.items()})
print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")
