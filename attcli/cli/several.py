"""A command that several processes share: rank 0 runs it, and the others do what it hands out."""

import os
from collections.abc import Callable
from typing import Any

from attcli.errors import UserError


def among_others(command: Callable[[], Any]) -> Any:
    """Join the other processes and run the command, or serve the one that does; the command's exit code."""
    from attcli import ranks
    from attcli.cli import USER_ERROR
    from attcli.cli.command import complain
    from attcli.stages import jobs

    leads = True
    try:
        me = ranks.of(os.environ)
        leads = me.lead
        with ranks.joined(me) as joined:
            if not joined.lead:
                return jobs.serve(joined)
            code = command()
            jobs.end(joined, code or 0)
            return code
    except UserError as error:
        if leads or not isinstance(error, ranks.LostError):
            complain(f"attcli: {error}")
        return USER_ERROR
