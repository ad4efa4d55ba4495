"""Why a text is no YAML that settings can be read from: the line, and plain words instead of a parser's."""

import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from attcli.errors import brief

UNREADABLE = (YAMLError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OverflowError)
"""What the reader raises for text that is no YAML, or that carries tags, which settings never need."""

GENERAL = "this is no setting; write `section:` and below it, indented by two blanks, `name: value`"

NOT_CLOSED = "a bracket or a quotation mark is not closed; close it"

NO_COLON = "a name has no `:` and value behind it; add them"

WORDS = (
    ("character '\\t'", "the line has a tab; indent with blanks"),
    ("cannot start any token", "a value begins with a character that means something in YAML; put it in quotes"),
    ("mapping values are not allowed", "a `:` is where none can be; write one line per setting, as `name: value`"),
    ("unknown escape character", "a backslash stands in double quotes; take single quotes"),
    ("stream end", NOT_CLOSED),
    ("end of stream", NOT_CLOSED),
    ("document separator", NOT_CLOSED),
    ("block end", "it is not indented as the lines above are; indent it by as many blanks"),
    ("flow", "a bracket or a comma is missing; add it"),
    ("',' or", "a bracket or a comma is missing; add it"),
    ("could not find expected ':'", NO_COLON),
    ("undefined alias", "a value begins with *, which means something in YAML; put it in quotes"),
    ("another document", "a second document begins; remove the line `---` and what follows"),
    ("unhashable", "a list or a section stands where a setting's name is expected; write a name"),
    ("constructor for the tag", "the line has a tag (a word that begins with !), which settings never need; remove it"),
    ("version", "another version of YAML is asked for; remove the line that begins with %YAML"),
    ("merging", "`<<` has nothing to take settings from; write the settings themselves"),
)
"""What a parser's message has in it, and what it means for somebody who writes settings."""

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "timestamp": "a date",
    "binary": "binary data",
}
"""What a value that cannot be read was taken for, by the last part of its tag."""


DEEPEST = 50
"""Brackets and sections within each other; settings have three."""

MOST_OPEN = 500
"""Brackets that may be open at once, those in texts and comments counted too."""

BRACKETS = re.compile(r"[\[\]{}]")


def yaml() -> YAML:
    """A reader of YAML 1.2 that makes nothing but plain values."""
    return YAML(typ="safe", pure=True)


def loaded(text: str) -> Any:
    """What a text in YAML holds. One of `UNREADABLE` where it is none.

    The reader's time grows with the square of the brackets that are open, so too many are refused before it begins.
    """
    if _open_brackets(text) > MOST_OPEN:
        raise RecursionError
    return yaml().load(text)


def _open_brackets(text: str) -> int:
    """How many brackets are open at most in a text, wherever they stand."""
    depth = deepest = 0
    for bracket in BRACKETS.findall(text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def explain(text: str, error: Exception) -> tuple[int | None, str]:
    """The line (from 1; None where it is not known) at which `text` fails with `error`, and what to do about it."""
    if isinstance(error, RecursionError):
        return _too_deep(text), "brackets or sections are nested too deeply; write only `section:` and its settings"
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return line, "the line has a control character, which is no text; delete it"
    if isinstance(error, DuplicateKeyError):
        return _line(error), f"{_key(text, error)} is there twice; remove one of the two lines"
    if isinstance(error, MarkedYAMLError) and "base64" not in str(error.problem):
        words = next((words for part, words in WORDS if part in str(error.problem)), GENERAL)
        return _line(error, begin=words in (NOT_CLOSED, NO_COLON)), words
    return _unreadable_value(text)


def line_of(text: str, keys: list[str]) -> int | None:
    """The line (from 1) of a setting, named by its section and its name; None where it is not in the text."""
    line = None
    node: Node | None = yaml().compose(text)
    for key in keys:
        pairs = node.value if isinstance(node, MappingNode) else []
        line, node = next(((k.start_mark.line + 1, v) for k, v in pairs if k.value == key), (None, None))
    return line


def _line(error: MarkedYAMLError, *, begin: bool = False) -> int | None:
    """Where the problem was noticed, or where what it is about begins."""
    marks = (error.problem_mark, error.context_mark)
    mark = next(filter(None, reversed(marks) if begin else marks), None)
    return None if mark is None else mark.line + 1


def _key(text: str, error: MarkedYAMLError) -> str:
    key = text[error.problem_mark.index :].partition(":")[0].strip() if error.problem_mark else ""
    return brief(key) if key else "a setting"


def _too_deep(text: str) -> int | None:
    """The line of the bracket or section that is nested deeper than any settings are."""
    depth = 0
    for token in yaml().scan(text):  # token by token, so that what comes after is not looked at
        name = type(token).__name__
        depth += name.endswith("StartToken") - name.endswith("EndToken")
        if depth > DEEPEST:
            return int(token.start_mark.line) + 1
    return None


def _unreadable_value(text: str) -> tuple[int | None, str]:
    """For text of the right form: the first value that is not what its form, or its tag, says."""
    reader = yaml()
    for node in _scalars(reader.compose(text)):
        try:
            reader.constructor.construct_object(node, deep=True)
        except UNREADABLE:
            taken_for = KINDS.get(str(node.tag).rpartition(":")[2], "something else")
            what = f"{brief(node.value)} cannot be read as {taken_for}"
            return node.start_mark.line + 1, f"{what}; correct it, or put it in quotes if it is a name"
    return None, GENERAL


def _scalars(node: Node | None) -> Iterator[ScalarNode]:
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _scalars(key)
            yield from _scalars(value)
    elif isinstance(node, SequenceNode):
        for value in node.value:
            yield from _scalars(value)
