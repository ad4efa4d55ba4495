"""What a check found."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    check: what was looked at; state: ok, note (a run works, but something could be better) or problem (a run would be
    stopped); says: what was found; remedy: what to do about it, empty where nothing is to be done.
    """

    check: str
    state: State
    says: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The finding for JSON."""
        return asdict(self)
