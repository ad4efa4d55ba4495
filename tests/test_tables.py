"""Tables in the characters that a terminal has."""

import io
import sys
from typing import Any

import pytest

from attcli.settings.comparison import Side
from attcli.tables import beside_published, records_table, scores_table, sides_table

ENTRY = {"mean": 94.7, "sd": 0.5, "n": 5}
REPORT: dict[str, Any] = {
    "scores": {"convnet": {"synthetic": ENTRY, "ema": ENTRY}},
    "protocol": {"epochs": 1000, "name": "exact"},
    "set": {"method": "att", "dataset": "digits", "ipc": 1, "iteration": 100},
}
PUBLISHED = {"network": "convnet", "accuracy": 46.0, "sd": 0.5, "table": "table 1"}


@pytest.mark.parametrize(("encoding", "spread"), [("utf-8", "±"), ("latin-1", "±"), ("ascii", "+-")])
def test_tables_can_be_written_in_any_encoding(encoding: str, spread: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    table, line = scores_table(REPORT), beside_published(REPORT, PUBLISHED)
    print(table, line, flush=True)
    assert f"94.70 {spread} 0.50 (n=5)" in table
    assert f"published 46.0 {spread} 0.5" in line
    assert ("┃" in table) == (encoding == "utf-8")
    assert "?" not in table
    assert len({len(row) for row in table.splitlines()[1:-1]}) == 1


def test_names_of_others_are_no_markup() -> None:
    row = {"images_per_class": 1, "bytes_per_class": 1.0, "float32_ipc": 1.0, "iterations": 1, "random": None}
    row |= {"name": "a[/b]", "dataset": "d[red]", "last": None, "selected": None, "largest": None}
    table = records_table([{**row, "published": {"m[/i]": 48.3}}])
    assert all(name in table for name in ("a[/b]", "d[red]", "48.3 m[/i]"))
    side = Side(1, "default")
    table = sides_table({"distill.ipc": (side, side)}, "runs/[old]", "runs[/old]")
    assert "runs/[old]" in table
    assert "runs[/old]" in table
