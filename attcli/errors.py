"""What is the user's to mend."""

import reprlib
import unicodedata
from datetime import date
from importlib import import_module
from typing import Any

LONGEST = 80
"""Characters of a value that a message repeats."""

_REPR = reprlib.Repr()
_REPR.maxlevel = 2


def brief(value: object) -> str:
    """A value as a message repeats it: as YAML has it, strings in quotes, and cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, date):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST else f"{value[:LONGEST]}…")
    text = _REPR.repr(value)  # which stops early, however much a nested value would unfold to
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def one_line(text: str) -> str:
    """The text with a blank for each line break, control character and half of a surrogate pair."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)


class UserError(Exception):
    """One line that says what is wrong and what to do about it; the command line turns it into exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class DamagedError(UserError):
    """A file that is not what was once written; what can be made again is then made again."""


class MissingError(UserError):
    """Input files that are not where they were looked for."""


class DivergedError(UserError):
    """A training that left the finite numbers; its learning rate is the one to mend."""


class OutOfTimeError(Exception):
    """The time limit is over before the work is; what is finished is kept, and the same command goes on with it."""


class SignalledError(KeyboardInterrupt):
    """A signal that a batch system sends (SIGTERM, SIGUSR1) ended the work; it is saved, and the same command goes on.

    A KeyboardInterrupt, as what ends at Ctrl-C ends at such a signal too.
    """


def optional(module: str, extra: str, purpose: str) -> Any:
    """A module of a package that only one of attcli's extras installs. UserError with the remedy where it is missing.

    purpose: the things that need it, as a sentence about them begins.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(
            f"{purpose} need the package {package} ({error}); install it: pip install 'attcli[{extra}]'"
        ) from None
