"""Params files that cannot be read: the line, plain words, and the remedy, never a parser's own."""

import re
import time
from pathlib import Path

import pytest

from attcli.errors import UserError
from attcli.settings.files import LARGEST, parse_value, place_of, read_yaml

JARGON = re.compile(
    r"<block|<stream|mapping|scalar|token|constructor|codec|recursion|sys\.|tag:yaml|document '|original value|index|"
    r"convert|Exceeds|unhashable|alias|#x"
)
"""What parsers and Python say."""

CASES = {
    "deep": ("a: 1\nb: " + "[" * 1000, 2, "nested too deeply; write only `section:`"),
    "deep sections": ("".join(" " * i + "a:\n" for i in range(500)), 50, "nested too deeply"),
    "tag of a number": ("distill:\n  ipc: !!int ''\n", 2, "'' cannot be read as a whole number; correct it"),
    "tag of a switch": ("distill: {ipc: !!bool maybe}", 1, "'maybe' cannot be read as true or false"),
    "tag of a float": ("distill: {lr_img: !!float x}", 1, "'x' cannot be read as a number"),
    "tag of data": ("a: 1\nb: !!binary x", 2, "'x' cannot be read as binary data"),
    "python's tag": ("distill:\n  ipc: !!python/object:os.system x", 2, "a tag (a word that begins with !)"),
    "own tag": ("distill: {ipc: !foo x}", 1, "a tag (a word that begins with !), which"),
    "huge number": ("seed: 1\ndistill:\n  ipc: " + "9" * 5000, 3, "…' cannot be read as a whole number"),
    "no date": ("a: 2020-13-45", 1, "'2020-13-45' cannot be read as a date"),
    "twice": ("distill:\n  ipc: 1\n  ipc: 2\n", 3, "'ipc' is there twice; remove one of the two lines"),
    "section twice": ("distill: {ipc: 1}\nseed: 1\ndistill: {}\n", 3, "'distill' is there twice"),
    "open bracket": ("seed: 1\ndistill: {ipc: 1\n", 2, "a bracket or a quotation mark is not closed"),
    "open quotes": ("seed: 1\na: 'x", 2, "a bracket or a quotation mark is not closed"),
    "wrong bracket": ("a: [1, 2}", 1, "a bracket or a comma is missing"),
    "tab": ("distill:\n\tipc: 1\n", 2, "the line has a tab; indent with blanks"),
    "two in a line": ("distill: ipc: 1", 1, "write one line per setting"),
    "indented": ("distill:\n  lr_img: 3\n ipc: 2\n", 3, "it is not indented as the lines above"),
    "no colon": ("seed: 1\ndistill\n", 2, "has no `:`"),
    "no colon before another": ("distill\nseed: 1\n", 2, "write one line per setting"),
    "star": ("a: *x", 1, "a value begins with *"),
    "at": ("a: @x", 1, "put it in quotes"),
    "backslash": ('a: "C:\\data"', 1, "take single quotes"),
    "two documents": ("---\na: 1\n---\nb: 2\n", 3, "remove the line `---`"),
    "list as name": ("? {a: 1}\n: 2", 1, "stands where a setting's name is expected"),
    "version": ("%YAML 3.0\n---\na: 1", 1, "remove the line that begins with %YAML"),
    "merge": ("<<: 3", 1, "write the settings themselves"),
    "control": ("a: 1\nb: '\x01'", 2, "the line has a control character, which is no text; delete it"),
    "nul": ("\x00", 1, "a control character"),
}


@pytest.mark.parametrize(("text", "line", "words"), CASES.values(), ids=CASES)
def test_each_defect_is_told_with_its_line_and_in_plain_words(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line} is not valid YAML: ")
    told = message.removeprefix(str(path))
    assert words in told
    assert not JARGON.search(told)
    assert len(told) < 250


def test_text_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"seed: 1\n# caf\xe9\n")
    with pytest.raises(UserError, match="line 2 is not valid YAML: it is not text in UTF-8; save it as UTF-8"):
        read_yaml(path)
    path.write_bytes(b"\xef\xbb\xbfseed: 1\n")  # as Windows' editor writes it
    assert read_yaml(path) == {"seed": 1}


def test_what_is_no_params_file_at_all_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_bytes(b"[" * (LARGEST + 1))
    for name, words in {"large.yaml": "longer than 256 KiB", "none.yaml": "No such file", "": "Is a directory"}.items():
        with pytest.raises(UserError, match=f"{words}.*--params"):
            read_yaml(tmp_path / name)
    for odd in (Path("x" * 5000), Path("a\0b"), Path("/dev/zero")):
        with pytest.raises(UserError, match="--params") as caught:
            read_yaml(odd)
        assert "\n" not in str(caught.value)


def test_a_long_file_of_brackets_is_refused_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("a: " + "[" * 100_000)
    start = time.process_time()
    with pytest.raises(UserError, match=r"line 1 .*nested too deeply"):
        read_yaml(path)
    assert time.process_time() - start < 30


def test_a_settings_line_is_found(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("# a\nseed: 1\n\ndistill:\n  # b\n  ipc: 3\nprepare: {dataset: digits,\n  seed: 4}\n")
    places = {"seed": 2, "distill": 4, "distill.ipc": 6, "prepare.dataset": 7, "prepare.seed": 8}
    assert {name: place_of(path, name) for name in places} == {n: f"{path}, line {i}" for n, i in places.items()}
    assert place_of(path, "buffer.lr") == str(path)
    assert place_of(tmp_path / "gone.yaml", "seed") == str(tmp_path / "gone.yaml")


@pytest.mark.parametrize("text", ["[1", "a: b: c", "!foo x", "*x", "9" * 5000, "[" * 1000, "2020-13-45", "\x01", "@x"])
def test_a_word_that_is_no_yaml_stays_a_word(text: str) -> None:
    assert parse_value(text) == text
