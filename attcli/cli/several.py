"""A command that several processes share: rank 0 runs it, and the others do what it hands out."""

import os
from collections.abc import Callable
from typing import Any

import typer

from attcli.errors import UserError


def among_others(command: Callable[[], Any]) -> Any:
    """Join the other processes and run the command, or serve the one that does; the command's exit code."""
    from attcli import ranks
    from attcli.cli.command import USER_ERROR, complain
    from attcli.stages import jobs

    me = ranks.ALONE
    try:
        me = ranks.of(os.environ)
        with ranks.joined(me) as joined:
            if joined.lead:
                code = command()
                jobs.end(joined, code or 0)
                return code
            return jobs.serve(joined)
    except UserError as error:
        if me.lead or not isinstance(error, ranks.LostError):
            complain(f"attcli: {error}")
        return USER_ERROR
    except typer.Exit as end:
        return end.exit_code
