"""What a wrong setting is told with: where it stands, what is wrong with it in plain words, and the remedy."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from attcli.errors import LONGEST, UserError, brief
from attcli.settings.files import place_of

LISTED = 6
"""Names that are offered at most."""

LARGEST_BITS = 64
"""Bits of the largest whole number that a setting can have."""

LONGEST_WORD = 4096
"""Characters of the longest word that a setting can have, which are those of the longest path."""

LONGEST_LIST = 1000
"""Entries of the longest list that a setting can have."""

EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number with fewer digits",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a word",
    "tuple_type": "a list, as [a, b]",
    "path_type": "a path",
}
"""What pydantic's kinds of errors expect, in plain words; others are told in pydantic's."""


def unknown(name: str, settings: Sequence[str]) -> UserError:
    """What is said of a name from Python that is no setting's."""
    return UserError(f"unknown setting {brief(name)}; {offer(str(name), settings)}")


def unknown_assignment(name: str, text: str, settings: Sequence[str]) -> UserError:
    """What is said of `--set name=value` where there is no such setting."""
    return UserError(f"unknown setting in --set {_cut(text)}: {brief(name)}; {offer(name, settings)}")


def unknown_in_file(name: str, path: Path, settings: Sequence[str]) -> UserError:
    """What is said of a setting in a params file that is none: of a name alike, or that the file may be another's."""
    hint = offer(name, settings) if "." in name else _offer_at_top(name, settings)
    other = "" if hint.startswith("did") else foreign(path)
    return UserError(f"unknown setting in {place_of(path, name)}: {brief(name)}; {other}{hint}")


def no_section(section: str, path: Path | None) -> UserError:
    """What is said where a section of a params file, or of settings from Python, holds no settings."""
    if path is None:
        return UserError(f"section {section!r} must hold settings, as {{{section!r}: {{name: value}}}}")
    return UserError(
        f"{place_of(path, section)}: section {section!r} must hold settings, as `{section}: {{name: value}}`; "
        f"{foreign(path)}see `attcli config`"
    )


def foreign(path: Path) -> str:
    """The way out where a params file may belong to another program."""
    return f"if {path} is not attcli's, name another file with --params FILE, or work in another folder; "


def explain(error: ValidationError, origin: Mapping[str, str], params: Path | None) -> UserError:
    """What is said of the first setting whose value is wrong."""
    first, *others = error.errors()
    name = _name(first, origin)
    alternatives = [first, *(other for other in others if _name(other, origin) == name)]
    expected = list(dict.fromkeys(filter(None, map(_expected, alternatives))))
    if expected and _expected(first):
        message = f"input should be {' or '.join(expected)}"
    else:
        message = first["msg"][0].lower() + first["msg"][1:]
    value = f", not {brief(first['input'])}"
    return UserError(f"{name}: {message}{value}{source(name, origin, params)}; {_more(name, origin)}")


def no_number(name: str, value: bool, origin: Mapping[str, str], params: Path | None) -> UserError:
    """What is said of true and false where a number is expected, which pydantic would take for 1 and 0."""
    where = source(name, origin, params)
    return UserError(f"{name}: input should be a number, not {brief(value)}{where}; {_more(name, origin)}")


def _more(name: str, origin: Mapping[str, str]) -> str:
    """What tells more of a setting. Settings are not shown while a file or a variable holds one that is wrong."""
    shown = origin.get(name) == "flag"
    return f"see `attcli config {name} --describe`" if shown else "see `attcli config --schema`"


def refuse_impossible(name: str, value: Any, origin: Mapping[str, str], params: Path | None) -> None:
    """UserError for numbers and words that no setting can have, and that would fail wherever they are used.

    These are whole numbers beyond 64 bits, words with a NUL, which no file's name and no package takes, and words and
    lists that are longer than any that is meant.
    """
    parts = value if isinstance(value, (list, tuple)) else [value]
    if len(parts) > LONGEST_LIST:
        what = f"a list of {len(parts)} entries is longer than any that is meant"
    elif any(isinstance(part, int) and part.bit_length() > LARGEST_BITS for part in parts):
        what = f"a whole number of more than {LARGEST_BITS} bits is larger than any that is meant"
    elif any(isinstance(part, str) and len(part) > LONGEST_WORD for part in parts):
        what = f"a word of more than {LONGEST_WORD} characters is longer than any that is meant"
    elif any(isinstance(part, str) and "\0" in part for part in parts):
        what = "it has a NUL (a character of code 0), which no name can have"
    else:
        return
    raise UserError(f"{name}: {what}{source(name, origin, params)}; correct it, see `attcli config --schema`")


def source(name: str, origin: Mapping[str, str], params: Path | None) -> str:
    """Where a setting's value came from, in brackets, with the line of a file; empty for a default."""
    layer = origin.get(name, "default")
    if layer == "default":
        return ""
    return f" (from {place_of(params, name) if params is not None and layer == str(params) else layer})"


def _name(error: ErrorDetails, origin: Iterable[str]) -> str:
    """The dotted name of the setting that an error is about; what pydantic puts behind it is its own business."""
    parts = [str(part) for part in error["loc"][:2]]
    name = ".".join(parts)
    return name if name in origin else parts[0]


def _expected(error: ErrorDetails) -> str | None:
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    return EXPECTED.get(error["type"])


def _offer_at_top(name: str, settings: Sequence[str]) -> str:
    """The same for what stands outside of all sections of a file."""
    sections = dict.fromkeys(setting.partition(".")[0] for setting in settings)
    alike = get_close_matches(name.lower(), sections, n=1, cutoff=0.7)
    alike = alike or [setting for setting in settings if setting.endswith(f".{name.lower()}")]
    return f"did you mean {_either(alike)}? see `attcli config`" if alike else "see `attcli config`"


def _either(names: Sequence[str]) -> str:
    *most, last = map(repr, names[:LISTED])
    return f"{', '.join(most)}{' or ' if most else ''}{last}"


def offer(name: str, settings: Sequence[str]) -> str:
    """The settings that a name may stand for, if any, and where all are listed."""
    sections = dict.fromkeys(setting.partition(".")[0] for setting in settings if "." in setting)
    if name.lower().rstrip(".") in sections:
        section = name.lower().rstrip(".")
        return f"it is a section; write {section}.NAME=VALUE, see `attcli config`"
    alike = _alike(name.lower(), settings)
    return f"did you mean {_either(alike)}? see `attcli config`" if alike else "see `attcli config`"


def _alike(name: str, settings: Sequence[str]) -> list[str]:
    """Settings that are called so but for their section, or begin so; else the one that is spelled most alike."""
    section, _, own = name.rpartition(".")
    by_end: dict[str, list[str]] = {}
    for setting in settings:
        by_end.setdefault(setting.rpartition(".")[2], []).append(setting)
    if name in settings:
        return [name]
    if own in by_end:
        longer = [setting for end, group in by_end.items() if end.startswith(f"{own}_") for setting in group]
        return by_end[own] + ([] if section else sorted(longer, key=len))
    near = [setting for end in get_close_matches(own, by_end, n=3) for setting in by_end[end]]
    of_section = [setting for setting in near if setting.startswith(f"{section}.")]
    return of_section[:1] or near


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
