"""How names may be spelled: in any case, with or without dashes, lists with blanks after their commas."""

import re
from typing import Any

from attcli import registry
from attcli.errors import UserError, brief

ARCHS = "evaluate.archs"
LONGEST_LIST = 1000
"""Names of the longest list of networks that is looked at."""


def canonical(setting: str, value: Any) -> Any:
    """The value of a setting that names a choice, in the spelling of that choice; images per class as an integer.

    Other values, and names that nothing is called by, stay as they are. UserError for a list of networks that lacks a
    name.
    """
    if setting == "distill.ipc":
        return _whole(value)
    if setting == ARCHS:
        return _networks(value)
    kind = next((kind for kind, entry in registry.KINDS.items() if entry.setting == setting), None)
    if kind is None or not isinstance(value, str):
        return value
    if kind == "method":
        return "+".join(_spelled(kind, part) for part in value.split("+"))
    return _spelled(kind, value)


def _whole(value: Any) -> Any:
    """1.0 and the text 1 as 1, by which recipes are found; anything else as it is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value


def _networks(value: Any) -> Any:
    names = value.split(",") if isinstance(value, str) else value
    if names is not None and not isinstance(names, (list, tuple)):
        return value
    names = names or ()
    if len(names) > LONGEST_LIST:
        raise UserError(f"{ARCHS} names {len(names)} networks, more than any that is meant; name each once")
    spelled = tuple(_spelled("network", name) if isinstance(name, str) else name for name in names)
    if not spelled or "" in spelled:
        problem = f"{brief(value)} lacks a name" if value else "is empty"
        raise UserError(
            f"{ARCHS} {problem}; write names with commas and no blanks between them, as convnet,vgg11; "
            f"there are: {', '.join(registry.names('network'))}"
        )
    pools = [registry.network_pool(name) if isinstance(name, str) else (name,) for name in spelled]
    archs = (arch for pool in pools for arch in pool)
    return tuple({arch if isinstance(arch, str) else id(arch): arch for arch in archs}.values())


def _spelled(kind: str, name: str) -> str:
    names, stripped = registry.names(kind), name.strip()
    if stripped in names:
        return stripped
    loose = _loosely(stripped)
    alike = [known_name for known_name in names if _loosely(known_name) == loose]
    return alike[0] if len(alike) == 1 else stripped


def _loosely(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in "-_ ")
