"""Several runs on one page."""

from pathlib import Path

import pytest

from attcli.errors import UserError
from attcli.report import comparison, files, gather
from attcli.report.model import Facts
from tests.conftest import Cli
from tests.report import made
from tests.report.reading import Page, checked


def rendered(runs: list[Facts]) -> Page:
    return checked(comparison.page_of(runs, comparison.plots_of(runs)))


@pytest.fixture(scope="session")
def runs(facts: Facts, others: dict[str, Path]) -> list[Facts]:
    rest = [gather.facts(folder, [folder.parent / ".attcli"], name) for name, folder in others.items()]
    return [facts, *rest]


def test_the_command_takes_folders_and_data(
    scored: Path, others: dict[str, Path], cli: Cli, facts: Facts, tmp_path: Path
) -> None:
    files.write(tmp_path / "kept" / "report", files.PAGE, "x", {}, facts)
    written = cli("compare", str(scored), str(others["codes"]), str(tmp_path / "kept" / "report" / "report.json"))
    assert [Path(line).name for line in written.splitlines()] == [
        "comparison.html", "compared-scores-convnet.png", "compared-scores-convnet.svg", "compared-scores-mlp.png",
        "compared-scores-mlp.svg", "compared-loss.png", "compared-loss.svg",
    ]  # fmt: skip
    assert all(Path(line).parent == Path("comparison") for line in written.splitlines())
    read = checked(Path("comparison/comparison.html").read_text())
    assert "3 runs compared" in read.says
    for name in (scored.name, "codes", "kept"):
        assert name in read.words
    assert f"codes: {others['codes']} holds no scores" in read.says
    assert len(read.pictures()) == 3 * 10


def test_the_tables_hold_the_figures_of_each_run(runs: list[Facts]) -> None:
    read = rendered(runs)
    rows = {row["label"]: row["cells"] for row in comparison._rows(runs)}
    assert rows["images per class"] == [f"{facts.size.images_per_class:,}" for facts in runs if facts.size]
    score = runs[0].scores["convnet"].last["ema"]
    assert rows["ConvNet, their moving average"] == [f"{score.mean:.1f} ± {score.sd:.1f} %", *["–"] * 4]
    assert rows["iterations"] == ["6", "1", "1", "1", "1"]
    for label, cells in rows.items():
        assert label in read.says
        assert all(cell in read.says for cell in cells)


def test_only_settings_that_differ_are_listed(runs: list[Facts]) -> None:
    rows = {row["label"]: row["cells"] for row in comparison._differing(runs)}
    assert rows["distill.iterations"] == ["6", "1", "1", "1", "1"]
    assert rows["distill.storage"][3] == "codes"
    assert rows["distill.labels"] == ["hard", "hard", "hard", "hard", "learned"]
    assert "distill.syn_steps" not in rows
    assert "network.width" not in rows
    same = rendered([runs[0], runs[0]])
    assert "All settings that the runs' files state are the same." in same.says


def test_the_best_is_marked_for_runs_of_one_dataset_alone(facts: Facts) -> None:
    scores = facts.scores["convnet"].model_copy(
        update={"last": {"synthetic": facts.scores["convnet"].last["synthetic"].model_copy(update={"mean": 99.0})}}
    )
    better = facts.model_copy(update={"scores": {"convnet": scores}})
    rows = {row["label"]: row["best"] for row in comparison._rows([facts, better])}
    assert rows["ConvNet, distilled images"] == 1
    assert rows["ConvNet, their moving average"] is None  # only one run has it
    assert {row["best"] for row in comparison._rows([facts, facts])} == {None}  # as nobody leads
    other = better.model_copy(update={"about": better.about.model_copy(update={"dataset": "mnist"})})
    assert {row["best"] for row in comparison._rows([facts, other])} == {None}


def test_runs_of_other_classes_hostile_names_and_large_sets_are_compared(facts: Facts) -> None:
    read = rendered([facts, made.hostile(facts), made.many(facts, 200, 1, 64), made.published(facts)])
    assert "b" not in read.tags
    assert read.pictures() == []  # as their classes differ
    large = [made.many(facts, 200, 1, 64)] * 2
    read = rendered(large)
    assert len(read.pictures()) == 2 * comparison.MOST_CLASSES
    assert "180 more classes are left out" in read.says


def test_runs_are_named_by_what_tells_them_apart() -> None:
    def names(*runs: str) -> list[str]:
        return comparison._names([Path(run) for run in runs])

    assert names("/x/first/artifacts", "/x/second/artifacts/report/report.json") == ["first", "second"]
    assert names("/a/run", "/b/run/artifacts") == ["a/run", "b/run"]
    assert names("/a/run", "/a/run/artifacts", "/c") == ["a/run (1)", "a/run (2)", "c"]
    assert max(map(len, names("/" + "w" * 300, "/v"))) == comparison.LONGEST_NAME


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one"], "name two runs or more"),
        (["none", "none"], "none holds no run; name a folder with a synthetic.h5, or a report.json"),
        (["bad.json", "bad.json"], "bad.json holds no data of a report"),
        (["x"] * 25, "25 runs are more than fit on a page"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(words: list[str], said: str, cli: Cli) -> None:
    Path("bad.json").write_text("{}")
    line = cli("compare", *words, code=2)
    assert line.startswith("attcli: ")
    assert len(line.splitlines()) == 1
    assert said in line
    assert not Path("comparison").exists()


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="holds no data of a report"):
        files.read(path)
