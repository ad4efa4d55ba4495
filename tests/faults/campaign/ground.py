"""What the faults meet: a small run on the embedded digits, a folder for each state of it, and what it ends with."""

import csv
import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from attcli.store import artefact, experts
from tests.conftest import SMALL
from tests.faults.campaign.process import Ended, Trouble, clean, run
from tests.interchange import released

SETS = {name: value for name, value in SMALL.items() if name != "evaluate.epochs"} | {"evaluate.epochs": 6}
CODED = {
    "codes": {"distill.parameterisation": "frequency", "distill.frequencies": 16, "distill.storage": "codes"},
    "uint8": {"distill.parameterisation": "multiformation", "distill.storage": "uint8"},
}
"""Sets that are packed into few bits when they are written."""

FORMS = ("safetensors", "png", "released", "released-experts", "huggingface")
"""Forms that sets and experts of the digits are exported in."""


def flags(values: dict[str, object]) -> list[str]:
    """Settings as flags."""
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


@dataclass(frozen=True)
class Job:
    """A command, the state that it begins from, and what it may do again when it was stopped: so many units of work."""

    name: str
    words: list[str]
    before: str
    again: int = 0
    by_force: bool = False
    """Whether files that are there are replaced only with --force, as those of a begun export."""
    needs: str = ""
    """Another job that makes what it takes in."""

    @property
    def writes_apart(self) -> bool:
        """Whether it only reads the results, and writes into a folder beside them."""
        return self.name.startswith(("export", "compact"))


def stage(name: str, before: str, again: int, **changes: object) -> Job:
    """A stage with the small run's settings."""
    return Job(name, [name, "--no-auto", *flags({**SETS, **changes})], before, again)


STAGES = (
    stage("prepare", "nothing", 1),
    stage("buffer", "prepare", 1),
    stage("distill", "buffer", 2),  # an iteration, and those since the last of the saves, which are two apart
    stage("evaluate", "distill", 2),  # the network that was trained meanwhile, and the one whose line was torn
)


def exchanges(root: Path) -> list[Job]:
    """Commands that take in, hand on and shrink sets and experts, and those whose sets are packed."""
    exported = root / "export-safetensors" / "exported" / "safetensors"
    return [
        *(
            Job(f"export {form}", ["export", "--to", form, "--out", f"exported/{form}"], "distill", by_force=True)
            for form in FORMS
            if form != "huggingface" or find_spec("datasets")
        ),
        Job("compact experts", ["experts", "compact", "--to", "exported/compact", "--waypoints", "2"], "buffer"),
        Job("import experts", ["import", str(root / "buffers"), "--no-auto", *flags(SETS)], "prepare"),
        Job("import set", ["import", str(exported), "--no-auto", *flags(SETS)], "prepare", needs="export safetensors"),
        *(
            Job(
                f"pack {name}",
                ["distill", "--no-auto", *flags({**SETS, "distill.syn_steps": 3, **changes})],
                "buffer",
                again=2,
            )
            for name, changes in CODED.items()
        ),
    ]


class Ground:
    """Folders that are made once and copied for every trial, all below one that is deleted at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers = iter(range(10**9))
        self.states: dict[str, Path] = {"nothing": root / "nothing"}
        self.states["nothing"].mkdir(parents=True)
        self.jobs = {job.name: job for job in (*STAGES, *exchanges(root))}
        released.buffers(root / "buffers", files=2, experts=1)
        clean(run(["--version"], self.states["nothing"], root / "log"))  # all later processes are forks of this one
        self.others: dict[str, Job] = {}
        """Jobs that only some faults are tried with."""
        self._ended: dict[str, dict[str, object]] = {}
        self.measured: dict[str, tuple[float, int, str]] = {}
        """Seconds, calls of the disk, and units of work of each job that was left alone."""

    def shared(self, trials: int) -> list[tuple[Job, int]]:
        """Each job with its share of the trials of its command: `import` and `export` have several."""
        commands = Counter(name.partition(" ")[0] for name in self.jobs)
        return [(job, max(1, trials // commands[name.partition(" ")[0]])) for name, job in self.jobs.items()]

    def state(self, name: str) -> Path:
        """The folder in which the job of that name has ended, and those before it."""
        if name not in self.states:
            job = {**self.others, **self.jobs}[name]
            if job.needs:
                self.state(job.needs)
            folder = self.root / name.replace(" ", "-")
            copy(self.state(job.before), folder)
            calls, units = self.root / f"calls-{folder.name}", self.root / f"units-{folder.name}"
            ended = clean(run(job.words, folder, self.root / f"log-{folder.name}", Trouble(calls=calls, units=units)))
            assert ended.code == 0, ended.complained
            self.states[name] = folder
            self.measured[name] = ended.seconds, int(calls.read_text()), units.read_text()
            self._ended[name] = results(folder)
        return self.states[name]

    def wanted(self, name: str) -> dict[str, object]:
        """What the job of that name ends with when it is left alone."""
        self.state(name)
        return self._ended[name]

    def fresh(self, before: str) -> Path:
        """A new copy of a state."""
        folder = self.root / f"trial-{next(self._numbers)}"
        copy(self.state(before), folder)
        return folder

    def log(self) -> Path:
        """A new name for a log."""
        return self.root / "logs" / str(next(self._numbers))

    def again(self, job: Job, folder: Path, trouble: Trouble = Trouble()) -> Ended:  # noqa: B008
        """The same command once more, with nothing in its way; AssertionError unless it ends as if nothing had been."""
        ended = clean(run(job.words, folder, self.log(), trouble))
        if ended.code == 2 and "--force" in ended.lines[0] and job.by_force:
            ended = clean(run([*job.words, "--force"], folder, self.log(), trouble))
        assert ended.code == 0, f"the run after: {ended.complained[-2000:]}"
        self.compare(job, folder)
        return ended

    def compare(self, job: Job, folder: Path) -> None:
        """AssertionError unless a folder holds what the job ends with when it is left alone, byte for byte."""
        left, wanted = results(folder), self.wanted(job.name)
        assert left.keys() == wanted.keys(), f"other files: {sorted(left.keys() ^ wanted.keys())}"
        different = [name for name in wanted if left[name] != wanted[name]]
        assert not different, f"other bytes: {different}"

    def drop(self, folder: Path) -> None:
        """Delete a trial's folder."""
        shutil.rmtree(folder, ignore_errors=True)


def copy(source: Path, target: Path) -> None:
    """A copy of a folder in which hard links are kept."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def poured(source: Path, target: Path) -> None:
    """Copy what is in a folder into one that exists; hard links are kept."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def results(folder: Path) -> dict[str, object]:
    """All files that are results, by name and bytes; of the history, all but the seconds and what it was run on."""
    parts = [folder / name for name in ("artifacts", "exported")]
    files = {str(p.relative_to(folder)): p for part in parts for p in sorted(part.rglob("*")) if p.is_file()}
    return {name: content(path) for name, path in files.items() if path.name not in (".lock", ".holder")}


def content(path: Path) -> object:
    """The bytes of a file that holds no times; of a history, the rest of it."""
    if path.name == "history.h5":
        header, arrays = artefact.read(path, "history", "x")
        return header.fingerprint, {name: array.tobytes() for name, array in arrays.items() if name != "seconds"}
    if path.name == "history.csv":
        with path.open() as file:
            return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return path.read_bytes()


def assert_whole(folder: Path) -> None:
    """AssertionError unless every artefact that has its final name is whole."""
    for path in folder.rglob("*.h5"):
        if path.name.startswith("."):
            continue
        if path.stem.startswith("expert"):
            experts.read(path)
        else:
            named = path.stem.partition("-")[0]
            kinds = ("dataset", "synthetic", "history", "normaliser", "training")
            artefact.read(path, named if named in kinds else "snapshot", "x")


def leftovers(folder: Path) -> list[str]:
    """Temporary files that nothing will delete."""
    return [os.path.relpath(path, folder) for path in folder.rglob(".*.tmp")]
