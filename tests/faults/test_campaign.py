"""A small part of the campaign of `make faults`, and the page that is made from its record."""

import json
from pathlib import Path

import pytest

from attcli.store import synthetic
from tests.faults.campaign import damage, disks, page, stops
from tests.faults.campaign.__main__ import PARTS
from tests.faults.campaign.ground import Ground
from tests.faults.campaign.process import Ended, clean
from tests.faults.campaign.tally import Tally


def test_every_part_has_words() -> None:
    assert list(PARTS) == list(page.PARTS)


is_here = pytest.mark.skipif(not page.RECORDS.is_dir(), reason="a source archive has no records")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The states of the small run, made when they are first asked for."""
    return Ground(tmp_path_factory.mktemp("campaign") / "ground")


def survived(tally: Tally) -> None:
    assert tally.broken == []
    assert tally.tried == tally.survived == sum(tally.endings.values())


def test_a_killed_prepare_and_distillation(ground: Ground) -> None:
    for name in ("prepare", "distill"):
        tally = stops.killed(ground, ground.jobs[name], seed=0, trials=2)
        survived(tally)
        assert tally.endings["killed"]


def test_a_killed_export_leaves_nothing_and_is_the_same_again(ground: Ground) -> None:
    tally = stops.killed(ground, ground.jobs["export released"], seed=0, trials=4)
    survived(tally)
    assert tally.endings["killed"] >= 2


def test_a_killed_import_leaves_nothing(ground: Ground) -> None:
    survived(stops.killed(ground, ground.jobs["import set"], seed=0, trials=2))


def test_an_expert_that_is_not_finite_is_refused_and_made_anew(ground: Ground) -> None:
    for tally in damage.not_finite(ground, seed=0, trials=1):
        survived(tally)


def test_a_broken_promise_is_counted(ground: Ground) -> None:
    tally, job = Tally("a fault", "prepare"), ground.jobs["prepare"]
    folder = ground.fresh("prepare")
    damage.spoil(folder / "artifacts" / "dataset.h5", 0.5)
    tally.trial("damaged", lambda: ground.compare(job, folder) or "whole")
    tally.trial("whole", lambda: ground.compare(job, ground.fresh("prepare")) or "whole")
    assert (tally.tried, tally.survived, tally.endings) == (2, 1, {"whole": 1})
    assert "other bytes: ['artifacts/dataset.h5']" in tally.broken[0]


@pytest.mark.parametrize(
    ("code", "complained", "problem"),
    [
        (1, "Traceback (most recent call last):", "a traceback"),
        (1, "", "exit code 1"),
        (-11, "", "exit code -11"),
        (2, "", "0 lines"),
        (2, "attcli: it is wrong", "no remedy"),
        (2, "attcli: wrong; mend it\nattcli: wrong; mend it", "2 lines"),
    ],
)
def test_an_ending_that_is_not_clean_is_told(code: int, complained: str, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        clean(Ended(code, "", complained, 0.0))
    clean(Ended(2, "", "attcli: wrong; mend it", 0.0))


def test_what_is_damaged_counts_as_broken_only_where_wrong_numbers_are_read(tmp_path: Path, ground: Ground) -> None:
    path, _ = damage.readers(ground)["synthetic.h5"]
    right = damage.numbers(synthetic.read(path))
    target, content = tmp_path / "set.h5", path.read_bytes()
    assert damage.read_damaged(target, content[:-1], "", synthetic.read, right) == "refused"
    assert damage.read_damaged(target, content, "", synthetic.read, right) == "read, with the right numbers"
    with pytest.raises(AssertionError, match="wrong numbers"):
        damage.read_damaged(target, content, "", synthetic.read, [x + 1 for x in right])


def test_the_faults_of_disks_name_errors_of_the_system() -> None:
    assert {number for number, _ in disks.FAULTS.values()} == {5, 28, 30, 122}


@is_here
def test_the_page_is_what_the_record_says() -> None:
    file = page.newest()
    record = json.loads(file.read_text(encoding="utf-8"))
    assert page.PAGE.read_text(encoding="utf-8") == page.page(record, file.stem), "run `make faults`"


def test_the_table_has_all_rows_and_what_did_not_survive() -> None:
    rows = [
        {
            "part": "kills",
            "fault": "x",
            "where": "a",
            "tried": 3,
            "survived": 2,
            "endings": {"one": 2},
            "broken": ["place 1: …"],
        },
        {"part": "kills", "fault": "x", "where": "b", "tried": 1, "survived": 1, "endings": {"one": 1}, "broken": []},
    ]
    text = page.page({"seed": 0, "rows": rows}, "r")
    assert "| x | a | 3 | 2 | one (2) |" in text
    assert "| | b | 1 | 1 | one (1) |" in text
    assert "Of 4 trials, 3 survived" in text
    assert "- x, a: 1 of 3 trials" in text
    assert "no rows of yet: storms of signals, disks that fail" in text
    assert "[[" not in text.replace("[[record]]", "")
