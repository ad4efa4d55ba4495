"""A complete params.yaml: what DVC must see, and how it is written."""

import os
import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString
from ruamel.yaml.tokens import CommentToken

from attcli.errors import UserError, one_line
from attcli.settings.layers import PARAMS, Resolved, description, resolve, values_of
from attcli.settings.models import CONTENT, Runtime, Settings
from attcli.settings.recipes import get

DVC_MARK = "DVC_STAGE"
"""A variable that DVC sets for the commands of its stages."""

SWITCHES = ("y", "n", "yes", "no", "on", "off")
"""Words that readers of YAML 1.1 take for true and false."""


def check_under_dvc(resolved: Resolved) -> None:
    """UserError if DVC runs us while a content setting comes from elsewhere than the params file: DVC cannot see it."""
    if DVC_MARK not in os.environ:
        return
    elsewhere = resolved.settings.runtime.artifacts.absolute() != Runtime().artifacts.absolute()
    if elsewhere and resolved.origin.get("runtime.artifacts") == "environment":
        raise UserError("ATTCLI_ARTIFACTS is set, so that the results would not lie where dvc.yaml says; unset it")
    if not (missing := resolved.content_not_from_params()):
        return
    listed = f"{', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}"
    if by_flag := [name for name in missing if resolved.origin[name] == "flag"]:
        name = by_flag[0]
        problem, remedy = f"{name} comes from a flag", f"write it into {resolved.params or PARAMS} instead"
    elif resolved.params is None:
        problem, remedy = f"there is no {PARAMS}", "run `attcli recipes use NAME` for a complete one"
    elif resolved.params == PARAMS:
        problem, remedy = f"{PARAMS} lacks {listed}", "run `attcli recipes use NAME --force` for a complete one"
    else:
        problem = f"{resolved.params} lacks {listed}"
        remedy = f"add them; `attcli recipes use NAME` in an empty folder writes a complete {PARAMS} to copy from"
    raise UserError(f"{problem}, so DVC cannot see all that decides the results; {remedy}")


def params_of(recipe: str) -> str:
    """The text of a complete params.yaml for a recipe."""
    entry = get(recipe)
    flags = {**entry.settings(), **entry.experiment.settings()}
    resolved = resolve(flags, environ={}, recipe=recipe, ignore_params=True)
    return complete(resolved.settings, f"{entry.name}: {entry.title}")


def complete(settings: Settings, heading: str) -> str:
    """The text of a params.yaml with all content settings: a comment above all, and behind each what it is."""
    content = CommentedMap()
    for name, value in values_of(settings).items():
        section, _, key = name.partition(".")
        if section not in CONTENT:
            continue
        if key and section not in content:
            content[section] = CommentedMap()
            content.yaml_set_comment_before_after_key(section, before="\n")
        _add(content[section] if key else content, key or name, value, description(name))
    content.yaml_set_start_comment(one_line(heading))
    text = StringIO()
    _writer().dump(content, text)
    return text.getvalue()


class _Representer(RoundTripRepresenter):
    """Writes null as a word."""


_Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def _writer() -> YAML:
    writer = YAML()
    writer.Representer = _Representer
    writer.width = 2**30  # a comment would break a folded line
    return writer


def _add(section: CommentedMap, key: str, value: Any, comment: str) -> None:
    section[key] = _quoted(value)
    # the writer puts one blank before a comment; a second one is customary
    section.ca.items[key] = [None, None, CommentToken(f" # {one_line(comment)}", CommentMark(0)), None]


def _quoted(value: Any) -> Any:
    """The value, with quotes around strings that are no plain words: the writer sets them in too few cases."""
    if isinstance(value, str):
        if not value.isprintable():
            return DoubleQuotedScalarString(value)
        plain = re.fullmatch(r"[^\W\d_][\w+-]*", value) and value.lower() not in SWITCHES
        return value if plain else SingleQuotedScalarString(value)
    if isinstance(value, Mapping):
        return CommentedMap({key: _quoted(inner) for key, inner in value.items()})
    if isinstance(value, list):
        items = CommentedSeq(map(_quoted, value))
        items.fa.set_flow_style()
        return items
    return value
