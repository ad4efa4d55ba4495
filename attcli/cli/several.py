"""A command that several processes share: rank 0 runs it, and the others do what it hands out."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from attcli.errors import UserError


def among_others(command: Callable[[], Any]) -> Any:
    """Join the other processes and run the command, or serve the one that does; the command's exit code."""
    from attcli import ranks, runtime
    from attcli.cli.command import USER_ERROR, complain
    from attcli.stages import jobs

    for number in runtime.STOPPING:
        signal.signal(number, _leave)
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


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: while the processes look for each other there is nothing to save."""
    from attcli.cli.command import MORE_IS_LEFT

    os._exit(MORE_IS_LEFT)
