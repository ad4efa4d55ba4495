"""How many trials of a fault there were, how they ended, and which of them broke a promise."""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LONGEST = 2400
"""Characters that a row keeps of how a trial broke its promise."""


@dataclass
class Tally:
    """A row of the table: a fault, what it met, and its trials."""

    fault: str
    where: str
    seed: int = 0
    tried: int = 0
    survived: int = 0
    seconds: float = 0.0
    endings: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def trial(self, what: object, act: Callable[..., str], *inputs: Any) -> None:
        """One trial: `act(*inputs)` returns how it ended, in a few words, or raises where a promise is broken."""
        begun = time.monotonic()
        self.tried += 1
        try:
            self.endings[act(*inputs)] += 1
            self.survived += 1
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = str(error)
            if len(said) > LONGEST:  # what matters most of a traceback is its end
                said = f"{said[: LONGEST // 4]} … {said[-3 * LONGEST // 4 :]}"
            self.broken.append(f"{what}: {type(error).__name__} ({where.name}:{where.lineno}): {said}")
        self.seconds += time.monotonic() - begun

    def as_record(self) -> dict[str, Any]:
        """The row as JSON."""
        return {
            "fault": self.fault,
            "where": self.where,
            "seed": self.seed,
            "tried": self.tried,
            "survived": self.survived,
            "seconds": round(self.seconds, 1),
            "endings": dict(sorted(self.endings.items())),
            "broken": self.broken,
        }
