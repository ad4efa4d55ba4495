"""params.yaml: YAML 1.2, so that 1e-07 is a number, with duplicate keys refused."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from attcli.errors import UserError

UNREADABLE = (YAMLError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OverflowError)
"""What the reader raises for text that is no YAML, or that carries tags, which settings never need."""

LONGEST = 200


def _load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def _one_line(text: str) -> str:
    """The text as one line of printable characters, cut where it is long."""
    line = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(line.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; UserError if it cannot be read as one."""
    try:
        content = _load(path.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        what = _one_line(getattr(error, "problem", None) or str(error) or type(error).__name__)
        raise UserError(f"{path}{line} is not valid YAML: {what}; fix it or remove it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check --params") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} is not valid: it must hold sections such as `distill:`; see `attcli recipes use`")
    return content


def parse_value(text: str) -> Any:
    """The value of `--set key=value`, read as YAML; words that are not YAML stay words."""
    try:
        return _load(text)
    except UNREADABLE:
        return text
