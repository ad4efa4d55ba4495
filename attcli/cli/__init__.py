"""The command line. This module imports nothing that takes time, so that Ctrl-C is met from the first moment on."""

import os
import signal
import sys
from types import FrameType
from typing import Any

from attcli.signals import STOPPING

USER_ERROR = 2
"""Exit code of a command that cannot do what it was asked for."""

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""

MORE_IS_LEFT = 75
"""Exit code of a command that its time limit, SIGTERM or SIGUSR1 ended; the same command continues."""

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module 'attcli.cli' has no attribute {name!r}")
    from attcli.cli.commands import app

    return app


def main() -> None:
    """The console script."""
    _replace_closed_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell lets its background jobs ignore it
        signal.signal(signal.SIGINT, _quit)
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        from attcli.cli.several import among_others

        sys.exit(_flushed(among_others(_command)))
    try:
        code = _command()
        _leave_nothing_to_interrupt()
    except KeyboardInterrupt:  # another Ctrl-C while the command ends
        code = INTERRUPTED
        _leave_nothing_to_interrupt()
    sys.exit(_flushed(code))


def _command() -> Any:
    """Run the command that was typed; its exit code."""
    if line := _empty(sys.argv[1:]):
        print(line, file=sys.stderr)
        return USER_ERROR
    from attcli.cli.commands import app

    try:
        app()
    except SystemExit as end:
        return end.code
    except OSError as error:  # help that cannot be printed; the commands report their own
        return _unwritten(error)
    return 0


MAY_BE_EMPTY = ("--note", "--message")
"""Options whose text may be empty."""


def _empty(arguments: list[str]) -> str | None:
    """What is said of an empty argument, which would stand for the current folder where a path is meant."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        name, equals, value = argument.partition("=")
        if not argument and before not in MAY_BE_EMPTY:
            what = f"the argument after {before} is empty" if before else "the first argument is empty"
        elif name.startswith("--") and equals and not value and name not in MAY_BE_EMPTY:
            what = f"{name} has an empty value"
        else:
            continue
        return f"attcli: {what}; is a variable of the shell not set? Give it a value, or leave it out"
    return None


def _quit(number: int, frame: FrameType | None) -> None:
    """End at once: while modules are imported and settings are read there is nothing to save.

    An exception would come out of whatever is being imported, often as another one.
    """
    try:
        os.write(2, b"attcli: interrupted\n")
    finally:
        os._exit(INTERRUPTED)


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once, as `_quit` does, with the exit code that a batch system takes for "run it again"."""
    try:
        os.write(2, b"attcli: stopped before the work began; run it again\n")
    finally:
        os._exit(MORE_IS_LEFT)


def raise_interrupts() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, as there is work to be saved."""
    if signal.getsignal(signal.SIGINT) is _quit:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, once: another Ctrl-C ends the command at once, wherever it is by then."""
    signal.signal(signal.SIGINT, _quit)
    raise KeyboardInterrupt


def _leave_nothing_to_interrupt() -> None:
    """Let the exit code of a command that has ended be its own, whatever signal still comes."""
    for number in (signal.SIGINT, *STOPPING):
        if signal.getsignal(number) in (_interrupt, _quit, _leave):
            signal.signal(number, signal.SIG_IGN)


def _replace_closed_streams() -> None:
    """Put the null device in the place of standard streams that are closed.

    Otherwise the next file that is opened, perhaps a result, would get their number, and what is printed with it.
    """
    for number, (name, mode) in enumerate(STREAMS):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number and not _is_open(number):
                os.dup2(null, number)
                os.close(null)
                null = number
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _flushed(code: Any) -> Any:
    """The exit code, once what was printed is written. Whoever reads it may have gone, which is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout.fileno())
    except OSError as error:
        code = code or _unwritten(error)
    try:
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr.fileno())
    return code


def _unwritten(error: OSError) -> int:
    """The exit code of a command whose output finds no place, which is said on stderr."""
    discard(sys.stdout.fileno())
    try:
        sys.stderr.write(f"attcli: the output cannot be written ({error.strerror})\n")
    except OSError:
        discard(sys.stderr.fileno())
    return 2


def discard(number: int) -> None:
    """Let what is still to be written to a stream vanish, so that Python's last flush fails nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
