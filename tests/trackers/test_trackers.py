"""Numbers reach the trackers that are named; what fails there stops nothing; what is missing is said at once."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from loguru import logger

from attcli import registry, trackers
from attcli.errors import UserError
from attcli.settings import resolve
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import artefact, history
from attcli.trackers import Place

MakeRun = Callable[..., Run]


@dataclass
class Kept:
    """A tracker that keeps what it is told, and fails where it is told to."""

    fails: str = ""
    places: list[Place] = field(default_factory=list)
    rows: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)
    ended: int = 0

    def start(self, place: Place) -> "Kept":
        if self.fails == "start":
            raise RuntimeError("no server\nat all")
        self.places.append(place)
        return self

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self.fails == "log":
            raise RuntimeError("no disk")
        self.rows.append((self.places[-1].stage, step, dict(values)))

    def end(self) -> None:
        self.ended += 1
        if self.fails == "end":
            raise RuntimeError("no end")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """A tracker called tensorboard."""
    tracker = Kept()
    module: Any = ModuleType("stand-in")
    module.PACKAGE, module.start = "json", tracker.start
    original = registry.module
    monkeypatch.setattr(registry, "module", lambda kind, name: module if kind == "tracker" else original(kind, name))
    return tracker


def test_every_stage_sends_its_numbers(make_run: MakeRun, kept: Kept) -> None:
    run = make_run(runtime__trackers=("tensorboard",), evaluate__baselines=())
    report = pipeline.evaluate(run)
    of_stage = {name: [row[1:] for row in kept.rows if row[0] == name] for name in ("buffer", "distill", "evaluate")}
    steps = run.settings.buffer.experts * run.settings.epochs
    assert [step for step, _ in of_stage["buffer"]] == list(range(steps))
    assert {"loss", "accuracy", "expert"} == set(of_stage["buffer"][0][1])
    arrays = artefact.read(run.synthetic.with_name("history.h5"), history.KIND, history.MAKER)[1]
    pairs = zip(arrays["iteration"].tolist(), arrays["loss"].tolist(), strict=True)
    assert [(step, pytest.approx(values["loss"])) for step, values in of_stage["distill"]] == list(pairs)
    scores = {f"convnet/{kind}": entry["mean"] for kind, entry in report["scores"]["convnet"].items()}
    assert of_stage["evaluate"] == [(0, scores)]
    assert kept.ended == len(kept.places) == 3
    place = kept.places[1]
    assert place.name.startswith("distill-")
    assert place.folder == run.synthetic.parent / "tensorboard"
    assert place.settings["distill.ipc"] == run.settings.distill.ipc
    assert not any(name.startswith("runtime.") for name in place.settings)


@pytest.mark.parametrize("when", ["start", "log", "end"])
def test_a_tracker_that_fails_stops_nothing_and_is_told_once(make_run: MakeRun, kept: Kept, when: str) -> None:
    kept.fails = when
    told: list[str] = []
    sink = logger.add(lambda message: told.append(str(message)), level="WARNING")
    try:
        run = make_run(runtime__trackers=("tensorboard",))
        pipeline.distill(run)
    finally:
        logger.remove(sink)
    assert run.synthetic.exists()
    failed = [line for line in told if "the tracker tensorboard failed" in line]
    assert len(failed) == 2  # of buffer and of distill
    assert all("the run goes on without it" in line for line in failed)
    assert when != "start" or "(no server at all)" in failed[0]
    assert kept.ended == (0 if when == "start" else 2)  # else the next stage of this process might not start another


def test_nothing_is_sent_unless_it_is_asked_for(make_run: MakeRun, kept: Kept) -> None:
    pipeline.distill(make_run())
    assert not kept.places


def test_unknown_and_missing_trackers_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unknown tracker 'tensorbord'"):
        resolve({"prepare.dataset": "digits", "runtime.trackers": "tensorbord"}, environ={}, ignore_params=True)
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"needs the package wandb, which is missing; install it \(pip install wandb\)"):
        resolve({"prepare.dataset": "digits", "runtime.trackers": "wandb"}, environ={}, ignore_params=True)


REAL = """
import sys
from pathlib import Path
from attcli.trackers import Place, tracking
name, folder = sys.argv[1], Path(sys.argv[2])
for first in (0, 3):  # a run, and the same one that goes on
    with tracking([name], Place("distill", "distill-1", folder, {"distill.ipc": 1, "x": [1, 2]})) as log:
        for step in range(first, first + 3):
            log(step, {"loss": 1 / (step + 1)})
"""


@pytest.mark.parametrize("name", registry.names("tracker"))
def test_the_real_tracker_keeps_the_numbers(name: str, tmp_path: Path) -> None:
    package = registry.module("tracker", name).PACKAGE
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    words = [sys.executable, "-c", REAL, name, str(tmp_path)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "failed" not in done.stderr
    files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert files
    assert set(tmp_path.iterdir()) == {tmp_path / name}
    if name == "dvclive":
        assert json.loads((tmp_path / "dvclive/distill/metrics.json").read_text())["step"] == 5


def standing_in(monkeypatch: pytest.MonkeyPatch, name: str, **parts: Any) -> None:
    """Put a module with these parts in the place of a package that need not be installed."""
    module = ModuleType(name)
    for part, value in parts.items():
        setattr(module, part, value)
    monkeypatch.setitem(sys.modules, name, module)


def test_wandb_uploads_nothing_unless_it_is_told_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: dict[str, Any] = {}
    standing_in(monkeypatch, "wandb", init=lambda **words: said.update(words), Settings=lambda **words: words)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    registry.module("tracker", "wandb").start(Place("distill", "distill-1", tmp_path, {}))
    assert (said["mode"], said["resume"], said["dir"]) == ("offline", "allow", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "online")
    registry.module("tracker", "wandb").start(Place("distill", "distill-1", tmp_path, {}))
    assert said["mode"] == "online"


def test_dvclive_touches_no_experiment_and_no_pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: dict[str, Any] = {}
    standing_in(monkeypatch, "dvclive", Live=lambda *folder, **words: said.update(words))
    with suppress(AttributeError):
        registry.module("tracker", "dvclive").start(Place("distill", "distill-1", tmp_path, {}))
    assert said["save_dvc_exp"] is False
    assert said["dvcyaml"] is None
