"""What is the user's to mend."""

import reprlib
import unicodedata
from datetime import date
from importlib import import_module
from typing import Any

LONGEST = 80
"""Characters of a value that a message repeats."""

LONGEST_LINE = 2000
"""Characters of a message; a longer one, as a file of somebody else may cause it, is cut in its middle."""

MOST_BITS = 1000
"""Whole numbers of more bits are not written out: Python refuses to write some of those that it reads."""

TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks that turn the order around in which characters are shown."""

JOINERS = "\u200c\u200d"
"""Characters that cannot be seen but belong to words of some languages, and that do nothing else."""

_REPR = reprlib.Repr()
_REPR.maxlevel = 2


def brief(value: object) -> str:
    """A value as a message repeats it: as YAML has it, strings in quotes, and cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, date):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST else f"{value[:LONGEST]}…")
    try:
        text = _REPR.repr(value)  # which stops early, however much a nested value would unfold to
    except ValueError:  # a number in it that Python does not write
        text = f"a {type(value).__name__} with a number that is too long"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def one_line(text: str) -> str:
    """The text with a blank for each line break and each character that does not show itself.

    Such characters could hide words, turn their order around or steer a terminal.
    """
    return "".join(c if c.isprintable() or c in JOINERS else " " for c in text)


def printable(text: str) -> bool:
    """Whether a name holds no line breaks, control characters, marks that turn the order around, or half pairs."""
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in TURNING for c in text)


def _cut(text: str) -> str:
    half = LONGEST_LINE // 2 - 2
    return text if len(text) <= LONGEST_LINE else f"{text[:half]} … {text[-half:]}"


class UserError(Exception):
    """One line that says what is wrong and what to do about it; the command line turns it into exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(_cut(message)))


class UnavailableError(UserError):
    """The system does not let a file be read now: it may well be whole, and stays where it is."""


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


def of_the_system(error: OSError) -> UserError:
    """The line for an error of the system, such as a full disk."""
    place = f"{error.filename}: " if error.filename else ""
    return UserError(f"{place}{error.strerror}; fix that and run it again: what was finished is kept")
