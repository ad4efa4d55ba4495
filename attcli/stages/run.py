"""What all stages share: where things lie, and what may be made or overwritten."""

import itertools
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loguru import logger

from attcli import ranks
from attcli.atomic import sweep
from attcli.errors import DamagedError, OutOfTimeError, UserError, brief
from attcli.ranks import Ranks
from attcli.settings import Settings
from attcli.settings.layers import values_of
from attcli.stages.identity import LATER
from attcli.store import artefact, dataset, times
from attcli.store.files import LOCK, locked
from attcli.trackers import Log, Place, tracking

OTHERWISE = "--force overwrites it, --artifacts DIR writes elsewhere"
NAMES = {
    "distill.experts": "buffer.experts",
    **{f"distill.{name}": f"buffer.{name}" for name in ("difficulty", "difficulty_networks", "difficulty_epochs")},
    **{f"distill.judges_{name}": f"buffer.{name}" for name in ("lr", "batch", "augment", "precision", "seed")},
}
"""Settings that files keep under another name."""


@dataclass(frozen=True)
class Run:
    """One invocation: its settings, whether missing inputs are made (auto), other results overwritten (force)."""

    settings: Settings
    auto: bool = True
    force: bool = False
    time_limit: float | None = None
    fresh: str = ""
    """The name of a stage that is computed anew, whatever is kept of it."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Where each setting's value came from, by dotted name."""
    params: Path | None = None
    """The params file that was read, which is the origin of the values in it."""
    forgotten: list[Path] = field(default_factory=list, compare=False)
    """The work folders that were set aside already, as `fresh` demands."""
    begun: float = field(default_factory=time.monotonic)
    ranks: Ranks = field(default_factory=ranks.current)
    """The processes that share the work."""

    def asked(self, name: str, *, files: bool) -> bool:
        """Whether a setting's value was asked for by a flag or, with `files`, in a params file; not by a recipe.

        Without an origin (as in a notebook) every value counts as asked for.
        """
        origin = self.origin.get(name, "flag")
        return origin == "flag" or (files and origin == str(self.params))

    def tracking(self, stage: str, name: str) -> AbstractContextManager[Log]:
        """A function that sends the stage's numbers to the trackers that the settings name.

        name: the same whenever the work goes on. What trackers write goes into folders of their own among the results.
        """
        values = {key: value for key, value in values_of(self.settings).items() if not key.startswith("runtime.")}
        return tracking(self.settings.runtime.trackers, Place(stage, name, self._out, values))

    def out_of_time(self) -> bool:
        """Whether the time limit, in seconds since this invocation began, is over."""
        return self.time_limit is not None and time.monotonic() - self.begun > self.time_limit

    def _goes_on_waiting(self) -> bool:
        """True while this run may wait for another process; OutOfTimeError where its time limit is over."""
        if self.out_of_time():
            raise OutOfTimeError("another attcli was still at the same work")
        return True

    @property
    def _out(self) -> Path:
        return self.settings.runtime.artifacts

    @property
    def dataset(self) -> Path:
        """The prepared dataset."""
        return self.settings.prepared

    @property
    def experts(self) -> Path:
        """The folder of experts."""
        return self._out / "experts"

    @property
    def synthetic(self) -> Path:
        """The distilled set."""
        return self._out / "synthetic.h5"

    @property
    def normaliser(self) -> Path:
        """The normaliser of the distilled set."""
        return self._out / "normaliser.h5"

    @property
    def snapshots(self) -> Path:
        """The folder of the distillation's snapshots."""
        return self._out / "snapshots"

    @property
    def history(self) -> Path:
        """What every iteration of the distillation did; beside it, as .csv, the view for plots."""
        return self._out / "history.h5"

    @property
    def grid(self) -> Path:
        """The picture of the distilled images."""
        return self._out / "images.png"

    @property
    def scores(self) -> Path:
        """The scores."""
        return self._out / "scores.json"

    @property
    def evaluating(self) -> Path:
        """The file that says which distillation `evaluate` has begun, until it is finished."""
        return self._out / ".evaluating"

    def work(self, stage: str, fingerprint: str) -> Path:
        """Where a stage keeps unfinished and reusable work of one identity."""
        return self.settings.runtime.work_dir / f"{stage}-{fingerprint}"

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """The results' folder, held by this process alone, so that two runs never mix their results in it.

        Waits for a process that was given the same settings, and whose results are therefore these; UserError if one
        with other settings holds the folder, OutOfTimeError if the time limit ends meanwhile.
        """
        content = self.settings.model_dump(mode="json", exclude={"runtime"})
        with locked(self._out, wait=self._goes_on_waiting, work=artefact.fingerprint("all", 0, content, {})):
            sweep(self._out)
            for results in (self.experts, self.snapshots):
                if not (results / LOCK).exists():  # where there is one, it is another run's results folder as well
                    sweep(results)
            yield

    @contextmanager
    def working(self, stage: str, fingerprint: str) -> Iterator[Path]:
        """The stage's work folder and the results' folder, held by this process alone.

        Waits for a process that does the same work; UserError if one with other settings writes into the results.
        """
        with self.publishing(), self.working_at(self.work(stage, fingerprint), stage) as folder:
            yield folder

    @contextmanager
    def working_at(self, folder: Path, stage: str) -> Iterator[Path]:
        """A stage's work folder alone, for work that is not published as it is. What the work takes is kept there."""
        with locked(folder, wait=self._goes_on_waiting):
            for part in (folder, folder / "snapshots", folder / "history"):
                sweep(part)
            if self.fresh == stage:
                self._forget(stage, folder)
            with times.measured(folder, self.settings.runtime.device):
                yield folder

    def _forget(self, stage: str, folder: Path) -> None:
        """Set aside what is kept of a stage in a folder and what is published of it, once in an invocation."""
        if folder in self.forgotten:
            return
        self.forgotten.append(folder)
        names = (folder.with_name(f"{folder.name}.replaced-{number}") for number in itertools.count(1))
        replaced = next(name for name in names if not name.exists())
        kept = [entry for entry in folder.iterdir() if entry.name != ".lock"]
        results = {
            "prepare": [self.dataset],
            "buffer": [self.experts],
            "distill": [
                *(self.synthetic, self.normaliser, self.snapshots, self.grid),
                *(self.history, self.history.with_suffix(".csv")),
            ],
            "evaluate": [],
        }
        published = [path for path in results[stage] if path.exists() and len(self.forgotten) == 1]
        for place, entries in ((replaced, kept), (replaced / "results", published)):
            for entry in entries:
                place.mkdir(parents=True, exist_ok=True)
                shutil.move(entry, place / entry.name)
        if replaced.exists():
            logger.info("{} is computed anew; what was kept of it is in {}", stage, replaced)


def differences(kept: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two settings, each as `name is this there, that asked for`."""
    differing = []
    for name in sorted({*kept, *asked}):
        older = LATER.get(f"{prefix}{name}")  # what a result that does not say it was made by
        a, b = kept.get(name, older), asked.get(name, older)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            differing += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            setting = NAMES.get(f"{prefix}{name}", f"{prefix}{name}")
            differing.append(f"{setting} is {_plain(a)} there, {_plain(b)} asked for")
    return differing


def _plain(value: Any) -> str:
    """A value as params.yaml has it, but for quotes."""
    return value if isinstance(value, str) else brief(value)


def imported_experts(settings: Mapping[str, Any]) -> str | None:
    """What the experts that were made by these settings are called, if they were imported."""
    name = settings.get("buffer", {}).get("imported")
    return None if name is None else str(name)


def refuse(path: Path, kept: Mapping[str, Any], asked: Mapping[str, Any], remedy: str, prefix: str = "") -> UserError:
    """The error of an artefact that was made with other settings, of other inputs, or imported.

    prefix: the section of settings that stand without one.
    """
    if imported := kept.get("imported"):
        return UserError(f"{path} was imported from {imported['file']}; {remedy}")
    if imported := asked.get("imported"):
        return UserError(f"{path} was distilled here, not imported from {imported['file']}; {remedy}")
    if name := imported_experts(kept):
        return UserError(
            f"{path} was imported ({name}); to use these experts, add --set buffer.imported={name}, or in params.yaml; "
            f"{remedy}"
        )
    if name := imported_experts(asked):
        return UserError(f"{path} was trained here, and imported experts are asked for ({name}); {remedy}")
    why = "; ".join(differences(kept, asked, prefix)) or "other inputs, or another version of the method"
    return UserError(f"{path} was made with other settings ({why}); {remedy}")


def may_write(run: Run, path: Path, kind: str, maker: str, fingerprint: str, settings: Mapping[str, Any]) -> bool:
    """Whether `path` holds the artefact of this identity already. UserError if it holds another and may not go."""
    if not path.exists():
        return False
    try:
        header = artefact.header(path, kind, maker)
    except DamagedError:
        if not run.force:
            raise
        logger.warning("{} can't be read; it is overwritten", path)
        return False
    if header.fingerprint == fingerprint:
        return True
    if run.force:
        logger.warning("{} was made with other settings; it is overwritten", path)
        return False
    prefix = "prepare." if kind == dataset.KIND else ""
    raise refuse(path, header.settings, settings, OTHERWISE, prefix)
