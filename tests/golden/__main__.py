"""`python -m tests.golden`: compute the golden arrays anew, after a change that is meant to alter them.

Raise the stage's number in `attcli.stages.identity.ALGORITHM` first, and say in the commit what changed.

`python -m tests.golden NAME` computes only the cases that have no arrays yet, and keeps them in `golden-NAME.npz`.
"""

import sys
import tempfile
from pathlib import Path

import torch

from attcli import progress
from attcli.stages.identity import ALGORITHM
from tests.golden.runs import cases, files, read, write
from tests.golden.test_golden import GOLDEN

torch.set_num_threads(1)
progress.configure("quiet")
names = sys.argv[1:]
path = GOLDEN.with_name(f"golden-{names[0]}.npz") if names else GOLDEN
if names and path.exists():
    sys.exit(f"{path} exists; choose another name")
kept = read(GOLDEN)[1] if names else {}
with tempfile.TemporaryDirectory() as folder:
    wanted = {f"{stage}/{name}": compute for stage, name, compute in cases(Path(folder))}
    computed = {name: compute() for name, compute in wanted.items() if name not in kept}
if not names:
    for file in files(GOLDEN):
        file.unlink()
write(path, ALGORITHM, computed)
print(f"{path}: {path.stat().st_size} bytes, {', '.join(computed)}")
