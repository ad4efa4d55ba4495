"""Scores that are kept as they come."""

from pathlib import Path

from attcli.store.results import Results


def test_results_survive_a_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    Results(path).add(("a",), {"accuracy": 1.0})
    with path.open("a") as file:
        file.write('{"key": ["b"], "val')
    again = Results(path)
    assert again.get(("a",)) == {"accuracy": 1.0}
    assert again.get(("b",)) is None
    again.add(("b",), {"accuracy": 2.0})
    assert Results(path).get(("b",)) == {"accuracy": 2.0}


def test_a_damaged_line_of_results_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for name in "abc":
        Results(path).add((name,), {"accuracy": 1.0})
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:10] + "\x00" + lines[1][12:], lines[2]]) + "\n")
    again = Results(path)
    assert [again.get((name,)) is not None for name in "abc"] == [True, False, True]


def test_a_score_that_the_disk_changed_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for name in "ab":
        Results(path).add((name,), {"accuracy": 45.1})
    path.write_text(path.read_text().replace("45.1", "47.1", 1))
    assert [Results(path).get((name,)) for name in "ab"] == [None, {"accuracy": 45.1}]


def test_a_line_of_an_older_version_has_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"key": ["a"], "value": {"accuracy": 45.1}}\n')
    assert Results(path).get(("a",)) == {"accuracy": 45.1}
