"""docs/results.md is what the records and its template say."""

import json
import re
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from attcli.records import files
from benchmarks import results, results_tables

CIFAR10 = "2026-11-26-cifar10-att-ipc1"
is_here = pytest.mark.skipif(not results.RECORDS.is_dir(), reason="a source archive has no records")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A copy of the records."""
    return Path(shutil.copytree(results.RECORDS, tmp_path / "records"))


def rows(page: str, name: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith(f"| {name}")
    ]


@is_here
def test_the_page_is_what_the_command_writes() -> None:
    assert results.PAGE.read_text(encoding="utf-8") == results.page(), "run `make results`"


@is_here
def test_the_command_writes_the_page_and_checks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    app.command()(results.main)
    page = tmp_path / "results.md"
    page.write_text("old")
    monkeypatch.setattr(results, "PAGE", page)
    assert CliRunner().invoke(app, ["--check"]).exit_code == 1
    assert page.read_text() == "old"
    assert CliRunner().invoke(app, []).exit_code == 0
    assert page.read_text() == results.page()
    assert CliRunner().invoke(app, ["--check"]).exit_code == 0


@is_here
def test_a_new_run_is_in_the_table_with_each_rule_apart(records: Path) -> None:
    record = files.read(records / "runs" / f"{CIFAR10}.json")
    convnet = record.scores["convnet"]
    changed = {
        kind: convnet.last[kind].model_copy(update={"mean": convnet.last[kind].mean + 1, "accuracies": None})
        for kind in ("synthetic", "ema")
    }
    scores = {"convnet": convnet.model_copy(update={"selected": changed})}
    size = record.size.model_copy(update={"bytes_per_class": 12_288, "float32_ipc": 1.0})
    files.write(records / "runs", record.model_copy(update={"name": "new", "scores": scores, "size": size}))
    page = results.page(records)
    (row,) = rows(page, "[new]")
    assert row[2:6] == ["1", "12,288", "1.00", "107"]
    assert row[7:] == ["41.7 (0.4)", "31.7 (0.6)", "42.7 (0.4) / 32.7 (0.6)", "–", "16.2 (0.2)", "48.3 (1.0), `att`"]
    assert "- [runs/new](../benchmarks/records/runs/new.json)" in page


@is_here
def test_numbers_follow_the_records(records: Path) -> None:
    path = records / "2026-11-21-digits-ipc1-methods.json"
    content = json.loads(path.read_text())
    content["results"]["convnet"]["mtt"]["synthetic"]["mean"] = 12.34
    path.write_text(json.dumps(content))
    path = records / "2026-11-21-digits-stability.json"
    content = json.loads(path.read_text())
    content["results"]["att"]["accuracy"]["1/10"] = 21.5
    path.write_text(json.dumps(content))
    before, after = results.page(), results.page(records)
    of_mtt = [row[1] for row in rows(after, "`mtt`")]
    assert (of_mtt[0], of_mtt[-1]) == ("12.3 (1.0, 0.3)", "12.3 (0.3)")  # between them is the field's table
    assert "no run of ATT ends below 21 %" in " ".join(after.split())
    numbers = re.compile(r"[\d.]+")
    assert len(numbers.findall(after)) == len(numbers.findall(before))


@is_here
def test_every_record_is_named(records: Path) -> None:
    (records / "2027-01-01-something.json").write_text('{"what": "something new"}')
    page = results.page(records)
    for path in [*records.glob("*.json"), *records.glob("runs/*.json")]:
        assert f"../benchmarks/records/{path.relative_to(records)})" in page
    assert "2027-01-01-something.json): something new" in page


def test_tables_are_markdown() -> None:
    table = results_tables.table(["", "a"], [["b", "1"], ["c", ""]])
    assert table.splitlines() == ["| | a |", "|---|---|", "| b | 1 |", "| c | |"]
    assert results_tables.number(1.25, None, 0.5) == "1.2 (0.5)"
    assert results_tables.number(1.0, None) == "1.0"


def test_the_field_has_real_images_first_and_a_row_for_each_method() -> None:
    def scores(mean: float, **others: float) -> dict[str, dict[str, object]]:
        kinds = {"synthetic": mean, **others}
        entries = {kind: {"mean": value, "sd_distillations": 0.25} for kind, value in kinds.items()}
        return {"convnet": entries, "vgg11": entries}

    effort = {"iterations": 1500, "images_per_class": 1, "distillations": 3, "cpu_s": 61.4, "memory_mb": 1234}
    rows = {
        "dm": {**effort, "scores": scores(80.0)},
        "att": {**effort, "scores": scores(90.0, ema=91.0, random=70.0, herding=75.0)},
        "real-loss after att": {**effort, "scores": scores(92.0)},
    }
    settings = {"prepare.dataset": "cifar10", "prepare.limit_per_class": 500, "distill.ipc": 1}
    about: dict[str, object] = {"problem": "cifar10-ipc1", "settings": settings}
    pages = results_tables.field({"2026-01-01-field-x": {"about": about, "rows": rows}, "other": {}})
    heading, *lines = pages["field cifar10-ipc1"].splitlines()
    assert heading == "### CIFAR-10, 500 images per class: the bytes of one image per class"
    assert [line.split("|")[1].strip() for line in lines[3:]] == [
        "random real images", "herding real images", "`dm`", "`att`", "`real-loss` after `att`"
    ]  # fmt: skip
    assert rows_of(lines[3]) == ["random real images", "–", "–", "3", "70.0 (0.2)", "–", "70.0 (0.2)", "–", "–"]
    assert rows_of(lines[6]) == ["`att`", "1,500", "1", "3", "90.0 (0.2)", "91.0 (0.2)", "90.0 (0.2)", "61", "1,234"]


def rows_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]
