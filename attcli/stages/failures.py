"""What a command says of a disk or a memory that is too small, in the same words in all processes that share it."""

from attcli.errors import UserError, of_the_system
from attcli.matching.halving import is_out_of_memory, told
from attcli.stages.run import Run


def of_the_machine(error: Exception, run: Run, stage: str) -> UserError | None:
    """The line for an error of the system or for too little memory; None for an error that is a mistake of ours."""
    if is_out_of_memory(error):
        return too_little_memory(error, run, stage)
    if (line := without_fixed_order(error)) is not None:
        return line
    if isinstance(error, OSError) and error.errno is not None:
        return of_the_system(error)
    return None


NO_FIXED_ORDER = "does not have a deterministic implementation"
"""What torch says of an operation that may give another result each time on a GPU, where that is not allowed."""


def without_fixed_order(error: BaseException) -> UserError | None:
    """The line for an operation of a network that is not reproducible on the device; None for another error."""
    if NO_FIXED_ORDER not in str(error):
        return None
    name = str(error).split()[0]
    return UserError(
        f"the network needs an operation ({name}) that may give another result each time on this device; allow it by "
        f"--set runtime.deterministic=false, or take another network or --device cpu"
    )


def too_little_memory(error: Exception, run: Run, stage: str) -> UserError:
    """The line for a memory that is too small for the work of a stage."""
    remedy = "choose smaller batches (distill.batch_syn, buffer.batch, evaluate.batch) or another device"
    if stage != "buffer" and run.settings.distill.engine == "unroll":
        remedy = "set distill.engine=adjoint, which holds one step at a time"
    return UserError(f"{run.settings.runtime.device} has too little memory ({told(error)}); {remedy}")
