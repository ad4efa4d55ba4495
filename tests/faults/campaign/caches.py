"""A DVC cache that is corrupted: what was cached is made anew, and never used."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.faults.campaign.damage import spoil
from tests.faults.campaign.ground import Ground, results
from tests.faults.campaign.tally import Tally
from tests.test_dvc import Checkout, dvc


def corrupted(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """A file of the cache is damaged, and the results, or all results and all kept work, are gone."""
    tally, draws = Tally("a corrupted DVC cache", "dvc repro", seed), np.random.default_rng([seed, 12])
    folder = ground.root / "dvc"
    folder.mkdir()
    checkout = Checkout(folder)
    checkout.run(*dvc("config", "--local", "core.no_scm", "true"))
    checkout.repro()
    first = results(folder)
    cached = sorted(path for path in (folder / ".dvc" / "cache").rglob("*") if path.is_file() and path.suffix != ".dir")
    for number in range(trials):
        file, work = cached[int(draws.integers(len(cached)))], number % 2 == 0
        share = float(draws.uniform(0, 1))
        tally.trial(f"{file.name[:8]} at {share:.2f}", _repaired, checkout, first, file, share, work)
    yield tally


def _repaired(checkout: Checkout, first: dict[str, object], file: Path, share: float, work: bool) -> str:
    folder = checkout.folder
    if not file.exists():
        checkout.run(*dvc("commit", "--force"))
    file.chmod(0o644)
    spoil(file, share)
    shutil.rmtree(folder / "artifacts")
    if work:
        shutil.rmtree(folder / ".attcli")
    path = f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "ATTCLI_THREADS": "1"}
    told = subprocess.run(dvc("repro"), cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, (told.stdout + told.stderr)[-3000:]
    left = results(folder)
    different = [name for name in left.keys() | first.keys() if left.get(name) != first.get(name)]
    assert not different, f"other bytes: {different}"
    return "made anew" if work else "restored from the kept work"
