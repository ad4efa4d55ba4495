"""Records of runs: made from a results folder, read back, listed; and how they refuse."""

import json
import shutil
from pathlib import Path
from statistics import mean

import h5py
import pytest
from typer.testing import CliRunner

from attcli.cli import app
from attcli.records import files, listing
from attcli.records.model import Record
from attcli.records.published import beside
from tests.conftest import SMALL, Cli


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run that was distilled in two parts and scored by all three rules."""
    folder = tmp_path_factory.mktemp("scored")
    sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for words in (
            ["distill", "--iterations", "2"],
            ["distill"],
            ["evaluate", "--archs", "convnet,mlp"],
            ["evaluate", "--snapshots", "--literature"],
        ):
            assert CliRunner().invoke(app, [words[0], *sets, *words[1:]]).exit_code == 0
    return folder


@pytest.fixture
def folder(scored: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which commands run in."""
    copy = tmp_path / "copy"
    shutil.copytree(scored, copy)
    monkeypatch.chdir(copy)
    return copy


def added(cli: Cli, name: str = "small", *words: str) -> Record:
    path = Path(cli("records", "add", name, *words).strip())
    return files.read(path)


def refused(cli: Cli, *words: str) -> str:
    """The one line that a command is refused with."""
    lines = cli(*words, code=2).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("attcli: ")
    return lines[0]


def test_a_record_holds_what_the_files_of_the_run_say(folder: Path, cli: Cli) -> None:
    record = added(cli, "small", "--note", "a small run")
    assert (record.dataset, record.method, record.ipc, record.iterations) == ("digits", "att", 1, 6)
    assert (record.parameterisation, record.storage) == ("pixels", "float32")
    assert record.published == []
    assert record.note == "a small run"
    assert record.recipe == "att/digits/ipc1"
    expected = {name: value for name, value in SMALL.items() if name in record.changes}
    assert {name: record.changes[name] for name in expected} == expected
    assert record.changes["distill.syn_steps"] == 5
    assert record.changes["evaluate.repeats"] == 2
    assert set(record.changes) <= {*SMALL, "buffer.epochs"}  # which follows from others
    assert "prepare.dataset" not in record.changes
    assert "network.depth" not in record.changes  # the recipe has the same
    with h5py.File("artifacts/history.h5") as history:
        steps, seconds = int(history["step"][()].sum()), float(history["seconds"][()].sum())
    with h5py.File("artifacts/dataset.h5") as data:
        images = len(data["train/labels"])
    assert record.experts is not None
    assert record.experts.model_dump() == {
        "experts": 2, "epochs": 6, "images_per_epoch": images, "images": 6 * images,
    }  # fmt: skip
    assert record.students is not None
    assert record.students.images_forward == 6 * 5 * 10
    assert record.students.images_adjoint == steps * 10
    assert record.times.iterations_wall_s == pytest.approx(seconds, abs=0.01)
    assert (record.normaliser.kind, record.normaliser.in_the_sets_file) == ("standardise", True)
    assert record.size.images_per_class == 1


def test_times_are_those_of_all_invocations(folder: Path, cli: Cli) -> None:
    times = added(cli).times
    (work,) = Path(".attcli").glob("distill-*")
    lines = [json.loads(line) for line in (work / "times.jsonl").read_text().splitlines()]
    assert times.distill is not None
    assert times.distill.invocations == len(lines) == 2
    assert times.distill.cpu_s == pytest.approx(sum(line["cpu_s"] for line in lines))
    assert times.distill.cpu_s > 0
    for stage in (times.prepare, times.buffer, times.evaluate):
        assert stage is not None
        assert stage.cpu_s > 0
    record = added(cli, "second")
    assert record.machine.cpu
    assert record.machine.threads == 1
    assert record.machine.steps
    shutil.rmtree(".attcli")
    gone = added(cli, "third")
    assert gone.times.distill is None
    assert gone.times.iterations_wall_s is not None
    assert gone.machine.cpu is None
    assert gone.machine.device == "cpu"


def test_the_three_rules_stand_apart(folder: Path, cli: Cli) -> None:
    scores = added(cli).scores
    own = json.loads(Path("artifacts/scores.json").read_text())["scores"]
    snapshots = json.loads(Path("artifacts/snapshot-scores.json").read_text())
    assert scores.keys() == {"convnet", "mlp"}
    assert scores["convnet"].last.keys() == {"synthetic", "ema", "random"}
    for kind, score in scores["convnet"].last.items():
        assert score.mean == own["convnet"][kind]["mean"]
        assert score.mean == pytest.approx(mean(score.accuracies or []), abs=1e-3)
        assert score.iteration is None
    for rule, name in (("selected", "selected"), ("largest", "literature_maximum")):
        entries = getattr(scores["convnet"], rule)
        assert entries.keys() == {"synthetic", "ema"}
        for kind, score in entries.items():
            assert score.model_dump() == snapshots[name]["convnet"][kind]
    assert scores["mlp"].selected is None  # snapshots were scored on ConvNets alone
    Path("artifacts/scores.json").unlink()
    of_snapshots = added(cli, "snapshots").scores["convnet"]
    assert of_snapshots.last["ema"] == scores["convnet"].last["ema"]
    assert "random" not in of_snapshots.last


def test_scores_of_something_else_are_refused(folder: Path, cli: Cli) -> None:
    path = Path("artifacts/snapshot-scores.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "protocol": {**content["protocol"], "epochs": 5}}))
    assert "another protocol than scores.json (other epochs)" in refused(cli, "records", "add", "x")
    path.write_text(json.dumps({**content, "set": {**content["set"], "iteration": 4}}))
    assert "of another set than the one beside it (other iteration)" in refused(cli, "records", "add", "x")
    path.write_text(json.dumps({**content, "set": {**content["set"], "fingerprint": "0" * 16}}))
    assert "of another set than the one beside it (other settings)" in refused(cli, "records", "add", "x")
    of_older = {name: value for name, value in content["set"].items() if name != "fingerprint"}
    path.write_text(json.dumps({**content, "set": of_older}))
    assert "does not say the fingerprint of its set, as files of older" in refused(cli, "records", "add", "x")
    path.write_text(json.dumps({"last": content["last"]}))
    assert "does not say `protocol`" in refused(cli, "records", "add", "x")
    path.unlink()
    assert added(cli).scores["convnet"].selected is None
    about = Path("artifacts/scores-about.json")
    other = json.loads(about.read_text())
    other["set"]["sha256"] = "0" * 64
    about.write_text(json.dumps(other))
    assert "scores.json is of another set" in refused(cli, "records", "add", "x")
    assert not Path("records/x.json").exists()


def test_what_is_missing_or_damaged_is_told_in_one_line(folder: Path, cli: Cli) -> None:
    assert "none/synthetic.h5 is missing; run `attcli distill`" in refused(
        cli, "records", "add", "x", "--artifacts", "none"
    )
    assert "'../x' names no record" in refused(cli, "records", "add", "../x")
    scores = Path("artifacts/scores.json")
    text = scores.read_text()
    for damaged, said in {
        "{": "scores.json is damaged",
        "[]": "scores.json is no file of scores",
        '{"scores": {"convnet": 5}}': "are damaged",
        '{"scores": {"convnet": {"ema": {"mean": 5000, "sd": null, "n": 1}}}}': "are damaged (convnet",
    }.items():
        scores.write_text(damaged)
        assert said.partition(" (")[0] in refused(cli, "records", "add", "x")
    scores.write_text(text)
    history = Path("artifacts/history.h5")
    history.write_bytes(history.read_bytes()[:-10])
    assert "history.h5 is damaged" in refused(cli, "records", "add", "x")
    history.unlink()
    students = added(cli).students
    assert students is not None
    assert students.images_adjoint is None
    Path("artifacts/dataset.h5").unlink()
    shutil.rmtree("artifacts/experts")
    assert added(cli, "few").experts is None
    for file in ("scores.json", "snapshot-scores.json"):
        Path("artifacts", file).unlink()
    assert "artifacts holds no scores; run `attcli evaluate`" in refused(cli, "records", "add", "x")


def test_records_come_back_and_are_never_overwritten(folder: Path, cli: Cli) -> None:
    record = added(cli, "a", "--to", "kept")
    assert files.read(files.write(Path("again"), record)) == record
    before = Path("kept/a.json").read_text()
    assert "kept/a.json is there already" in refused(cli, "records", "add", "a", "--to", "kept")
    assert Path("kept/a.json").read_text() == before
    assert added(cli, "a", "--to", "kept", "--note", "new", "--force").note == "new"
    Path("benchmarks/records/runs").mkdir(parents=True)
    cli("records", "add", "b")
    assert Path("benchmarks/records/runs/b.json").exists()
    assert [entry["name"] for entry in json.loads(cli("records", "--json"))] == ["b"]


def test_the_table_shows_what_records_hold(folder: Path, cli: Cli) -> None:
    record = added(cli, "small")
    larger = record.model_copy(update={"name": "larger", "ipc": 10})
    files.write(Path("records"), larger)
    values = beside("att", "frequency", "float32", "cifar10", 1)
    first = {"name": "first", "dataset": "cifar10", "published": values}
    files.write(Path("records"), record.model_copy(update=first))
    table = cli("records")
    assert table == cli("records", "list") == cli("records", "records")
    lines = [line.split() for line in table.splitlines() if "digits" in line or "cifar10" in line]
    assert [line[0] for line in lines] == ["first", "small", "larger"]
    means = listing.row(record)
    last = f"{means['last']['synthetic']:.1f} / {means['last']['ema']:.1f}"
    selected = f"{means['selected']['synthetic']:.1f} / {means['selected']['ema']:.1f}"
    assert " ".join(lines[0]).endswith("48.3 att, 60.6 fred")
    shown = " ".join(lines[1])
    assert shown.startswith(f"small digits 1 256 1.00 6 {last} {selected} ")
    assert shown.endswith(f" {means['random']:.1f} -")
    listed = json.loads(cli("records", "records", "--json"))
    assert [Record.model_validate(entry) for entry in listed] == files.read_all(Path("records"))


def of_ema(**score: object) -> dict:
    """Scores of a moving average alone, of a network with 9 % accuracy."""
    return {"convnet": {"last": {"ema": {"sd": None, "accuracies": [9.0], **score}}}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"form": 2}, "form: Input should be 1"),
        ({"iterations": -1}, "iterations: "),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"name": "other"}, "holds a record named other"),
        (
            {"scores": {"convnet": {"last": {"ema": {"mean": 90.0, "sd": None, "n": 1, "accuracies": [9.0]}}}}},
            "mean is",
        ),
        ({"scores": {"convnet": {"last": {"ema": {"mean": 9.0, "sd": None, "n": 2, "accuracies": [9.0]}}}}}, "1 acc"),
    ],
)
def test_a_record_that_is_none_is_refused(change: dict, said: str, folder: Path, cli: Cli) -> None:
    added(cli, "small")
    path = Path("records/small.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    line = refused(cli, "records")
    assert "records/small.json" in line
    assert said in line


def test_folders_without_records_are_refused(cli: Cli) -> None:
    assert "records is no folder; `attcli records add NAME`" in refused(cli, "records")
    Path("empty").mkdir()
    assert "empty holds no records" in refused(cli, "records", "empty")
    Path("empty/x.json").write_bytes(b"\xff{")
    assert "empty/x.json is no record (the file: " in refused(cli, "records", "empty")
