"""A complete params.yaml: what DVC must see, and how it is written."""

import json
import os
from typing import Any

from attcli.errors import UserError
from attcli.settings.layers import Resolved, description, resolve, values_of
from attcli.settings.models import CONTENT
from attcli.settings.recipes import get

DVC_MARK = "DVC_STAGE"
"""A variable that DVC sets for the commands of its stages."""


def check_under_dvc(resolved: Resolved) -> None:
    """UserError if DVC runs us while a content setting comes from elsewhere than params.yaml: DVC cannot see it."""
    if DVC_MARK in os.environ and (missing := resolved.content_not_from_params()):
        raise UserError(
            f"params.yaml lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}, so DVC cannot see "
            "them; run `attcli recipes use NAME --force` for a complete one"
        )


def params_of(recipe: str) -> str:
    """The text of a complete params.yaml for a recipe."""
    method, dataset, ipc = recipe.split("/")
    named = {"distill.method": method, "prepare.dataset": dataset, "distill.ipc": int(ipc.removeprefix("ipc"))}
    chosen = get(recipe).settings()
    resolved = resolve({**chosen, **named}, environ={}, recipe=recipe, ignore_params=True)
    lines = [f"# {recipe}: {get(recipe).title}"]
    section = ""
    for name, value in values_of(resolved.settings).items():
        first, _, key = name.partition(".")
        if first not in CONTENT:
            continue
        if key and first != section:
            section = first
            lines += ["", f"{section}:"]
        indent = "  " if key else ""
        lines.append(f"{indent}{key or name}: {_plain(value)}  # {description(name)}")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    """A value as YAML (which JSON is), words without quotes."""
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
