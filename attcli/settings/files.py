"""params.yaml: YAML 1.2, so that 1e-07 is a number, with duplicate keys refused."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from attcli.errors import UserError


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; UserError if it cannot be read as one."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path}{line} is not valid YAML: {what}; mend it or remove it") from None
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
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):
        return text
