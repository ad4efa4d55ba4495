"""The command for the field's table: what runs before what, and that a table goes on from its own file."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from benchmarks import field


class Machine:
    """Stands in for the processes: each finishes at once and says the same score."""

    def __init__(self, place: Path, score: float) -> None:
        self.place, self.score = place, score
        self.begun: list[str] = []

    def run(self, words: list[str], **options: object) -> None:
        asked = words[words.index("--one") + 1]
        self.begun.append(asked)
        row, _, what = asked.rpartition(":")
        if what != field.EXPERTS:
            field._keep(self.place / f"{row.replace(' ', '-')}-{what}.json", self.made(int(what)))

    def made(self, seed: int) -> dict[str, Any]:
        entry = {"mean": self.score + seed, "sd": 1.0, "n": 2}
        sizes = {"images_per_class": 1, "bytes_per_class": 256.4, "iterations": 100, "cpu_s": 9.0, "memory_mb": 700}
        return {**sizes, "scores": {"convnet": {"synthetic": entry}, "vgg11": {"synthetic": entry}}}


def table(monkeypatch: pytest.MonkeyPatch, folder: Path, score: float = 90.0, **changes: Any) -> list[str]:
    """What was begun, in its order, by a command in this folder."""
    on = Machine(folder / "digits-ipc1", score)
    monkeypatch.setattr(field, "subprocess", SimpleNamespace(run=on.run))
    asked: dict[str, Any] = {
        "rows": "real-loss after att,att,mtt,dc",
        "seeds": 2,
        "json_file": folder.parent / "field.json",
    }
    rest: dict[str, Any] = {"data_dir": folder, "jobs": 3, "one": None}
    field.main("digits-ipc1", folder=folder, **{**asked, **rest, **changes})
    return on.begun


def test_experts_come_before_the_rows_that_match_them_and_a_set_before_what_goes_on_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun = table(monkeypatch, tmp_path / "one")
    runs = [f"{row}:{seed}" for seed in (0, 1) for row in ("att", "mtt", "dc", "real-loss after att")]
    experts = [what for what in begun if what.endswith(field.EXPERTS)]
    assert sorted(begun) == sorted([*runs, *experts])
    assert len(experts) == 1, "mtt and att read the same experts"
    for later in ("att:0", "att:1", "mtt:0", "mtt:1"):
        assert begun.index(experts[0]) < begun.index(later)
    for seed in (0, 1):
        assert begun.index(f"att:{seed}") < begun.index(f"real-loss after att:{seed}")


def test_a_table_goes_on_from_its_file_on_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table(monkeypatch, tmp_path / "one", seeds=1)
    file = tmp_path / "field.json"
    noted = json.loads(file.read_text())
    noted["about"]["note"] = "By hand."
    file.write_text(json.dumps(noted))
    begun = table(monkeypatch, tmp_path / "two", score=80.0, rows="att,dc")
    assert [what for what in begun if not what.endswith(field.EXPERTS)] == ["att:1", "dc:1"]
    found = json.loads(file.read_text())
    assert found["about"]["note"] == "By hand."
    assert list(found["rows"]) == ["dc", "mtt", "att", "real-loss after att"], "all that it has, in the table's order"
    assert [found["rows"][row]["distillations"] for row in found["rows"]] == [2, 1, 2, 1]
    entry = found["rows"]["att"]["scores"]["convnet"]["synthetic"]
    assert (entry["mean"], entry["sd_distillations"]) == (85.5, 6.364)  # of 90 and of 81


def test_a_set_that_another_machine_made_is_made_again_for_what_goes_on_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table(monkeypatch, tmp_path / "one", rows="att", seeds=1)
    begun = table(monkeypatch, tmp_path / "two", rows="real-loss after att", seeds=1)
    assert begun.index("att:0") < begun.index("real-loss after att:0")


def test_a_file_of_another_problem_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table(monkeypatch, tmp_path / "one", seeds=1)
    file = tmp_path / "field.json"
    other = json.loads(file.read_text())
    other["about"]["matching"]["distill.lr_img"] = 31
    file.write_text(json.dumps(other))
    with pytest.raises(typer.BadParameter, match="other settings"):
        table(monkeypatch, tmp_path / "two")
    assert json.loads(file.read_text()) == other


def test_rows_share_only_the_kinds_of_scores_that_each_run_has() -> None:
    entry = {"mean": 90.0, "sd": None, "n": 1}
    both = {"scores": {"vgg11": {"synthetic": entry, "ema": entry}}, "images_per_class": 1, "bytes_per_class": 256.4}
    both |= {"iterations": 1, "cpu_s": 1.0, "memory_mb": 1}
    one = {**both, "scores": {"vgg11": {"synthetic": entry}}}
    assert list(field._summary([both, one])["scores"]["vgg11"]) == ["synthetic"]


def test_a_folder_of_other_settings_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table(monkeypatch, tmp_path / "one", seeds=1)
    path = tmp_path / "one" / "digits-ipc1" / "att-0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": "others"}))
    with pytest.raises(typer.BadParameter, match=r"att-0\.json was made with other settings"):
        table(monkeypatch, tmp_path / "one", seeds=1, json_file=tmp_path / "new.json")
