"""A complete params.yaml: what DVC must see, and how it is written."""

import os
from typing import Any

from attcli.errors import UserError
from attcli.settings.files import to_yaml
from attcli.settings.layers import Resolved, resolve, values_of
from attcli.settings.models import CONTENT
from attcli.settings.recipes import get

DVC_MARK = "DVC_STAGE"
"""A variable that DVC sets for the commands of its stages."""


def check_under_dvc(resolved: Resolved) -> None:
    """UserError if DVC runs us while a content setting comes from elsewhere than params.yaml, where DVC cannot see it."""
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
    content: dict[str, Any] = {}
    for name, value in values_of(resolved.settings).items():
        section, _, key = name.partition(".")
        if section in CONTENT:
            if key:
                content.setdefault(section, {})[key] = value
            else:
                content[section] = value
    return f"# {recipe}: {get(recipe).title}\n" + to_yaml(content)
