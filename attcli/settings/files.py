"""params.yaml: YAML 1.2, so that 1e-07 is a number, with duplicate keys refused."""

from pathlib import Path
from typing import Any

from attcli.errors import UserError
from attcli.settings.unreadable import UNREADABLE, explain, line_of, loaded

LARGEST = 2**18
"""Bytes of a file of settings; whatever is longer is none."""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such name can exist"
        raise UserError(f"{path} cannot be read ({reason}); check it, or name another with --params") from None
    if len(content) > LARGEST:
        raise UserError(f"{path} is longer than 256 KiB, which no file of settings is; name another with --params")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line} is not valid YAML: it is not text in UTF-8; save it as UTF-8") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; UserError, with the line and the remedy, if it cannot be read as one."""
    text = _text(path)
    try:
        content = loaded(text)
    except UNREADABLE as error:
        line, words = explain(text, error)
        place = f"{path}, line {line}" if line else str(path)
        raise UserError(f"{place} is not valid YAML: {words}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} is not valid: it must hold sections such as `distill:`; see `attcli recipes use`")
    return content


def place_of(path: Path, name: str) -> str:
    """The file, and the line in it of the setting with that dotted name, as far as it can be told."""
    return place(path, name.split("."))


def place(path: Path, keys: list[str]) -> str:
    """The file, and the line in it that the keys lead to, from the outermost one, as far as it can be told."""
    try:
        line = line_of(_text(path), keys)
    except (*UNREADABLE, UserError):
        line = None
    return f"{path}, line {line}" if line else str(path)


def parse_value(text: str) -> Any:
    """The value of `--set key=value`, read as YAML; words that are not YAML stay words."""
    try:
        return loaded(text)
    except UNREADABLE:
        return text
