"""Values that no setting can have: told in a line, at once, however they come in."""

import time
from typing import Any

import pytest
from loguru import logger

from attcli import progress
from attcli.errors import LONGEST_LINE, UserError, brief, one_line, printable
from attcli.settings import resolve
from attcli.settings.files import parse_value
from attcli.tables import scores_table
from tests.conftest import Cli
from tests.test_cli import refused

LONG = int("f" * 5000, 16)
"""A number that Python reads and refuses to write."""

IMPOSSIBLE = {
    "seed": LONG,
    "distill.ipc": -LONG,
    "distill.lr_img": LONG,
    "evaluate.random_lrs": [0.1, LONG],
    "buffer.epochs": 2**70,
    "evaluate.archs": ",".join(["convnet"] * 60_000),
    "evaluate.baselines": ["random"] * 2000,
    "runtime.artifacts": "a\0b",
    "runtime.data_dir": "x" * 5000,
    "runtime.device": "x" * 100_000,
    "distill.window": {"a": LONG},
    "evaluate.whole_epochs": [[LONG]],
}


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE.items(), ids=IMPOSSIBLE)
def test_impossible_values_are_told_in_a_line(name: str, value: Any) -> None:
    begun = time.process_time()
    with pytest.raises(UserError) as caught:
        resolve({name: value}, environ={}, ignore_params=True)
    assert time.process_time() - begun < 2
    assert str(caught.value).startswith(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_number_in_hexadecimal_reaches_the_command_line(cli: Cli) -> None:
    assert "of more than 64 bits is larger than any" in refused(cli, "config", "--set", f"seed=0x{'f' * 5000}")


@pytest.mark.parametrize("text", ["[" * 60_000, "{" * 60_000, "[{" * 30_000, "a: " + "[" * 5000 + "]" * 5000])
def test_brackets_without_end_take_no_time(text: str) -> None:
    begun = time.process_time()
    assert parse_value(text) == text
    assert time.process_time() - begun < 1


def test_values_that_python_does_not_write_are_told_in_words() -> None:
    assert brief(LONG) == "a number of 20000 bits"
    assert len(brief([LONG])) < 100


@pytest.mark.parametrize(
    "mark", ["\x1b[2J", "\x9b", "\u202e", "\u2066", "\u200f", "\u2028", "\udcff", "\r", "\ue000", "\u200b"]
)
def test_characters_that_hide_or_steer_are_not_printed(mark: str) -> None:
    assert one_line(f"a{mark}b").isprintable()
    table = {"method": f"a{mark}", "dataset": "[/b][link=x]", "ipc": 1, "iteration": 1}
    entry = {"mean": 1.0, "sd": None, "n": 1}
    report = {"set": table, "protocol": {"epochs": 1, "name": "x"}, "scores": {"[/x]": {"synthetic": entry}}}
    assert all(line.isprintable() for line in scores_table(report).split("\n"))
    assert "[/b][link=x]" in scores_table(report)
    lines: list[str] = []
    record = {"message": f"a{mark}b", "extra": {}}
    lines.append(progress._line(record))
    assert record["extra"]["line"].isprintable()


def test_the_log_is_one_line_for_each_message(capsys: pytest.CaptureFixture[str]) -> None:
    progress.configure("normal")
    logger.patch(lambda record: record.update(name="attcli")).info("a {}", "b\n00:00:00 ERROR \x1b[31mfaked {x} <red>")
    assert capsys.readouterr().err.count("\n") == 1
    progress.configure("quiet")


def test_names_in_any_script_are_names() -> None:
    for name in ("日本語", "\u3000", "می\u200cخواهم", "é", "a\u00a0b", "👩\u200d💻", ""):
        assert printable(name)
    for name in ("a\nb", "\x1b", "\u202e", "\u2069", "\udcff", "\x85", "\u200f"):
        assert not printable(name)


def test_a_message_without_end_is_cut_in_its_middle() -> None:
    line = str(UserError("begin" + "x" * 10**7 + "end"))
    assert line.startswith("begin")
    assert line.endswith("end")
    assert len(line) < LONGEST_LINE
