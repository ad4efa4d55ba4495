"""What a command says of a disk or a memory that is too small, in the same words in all processes that share it."""

from attcli.errors import UserError, of_the_system
from attcli.matching.halving import is_out_of_memory, told
from attcli.stages.run import Run


def of_the_machine(error: Exception, run: Run, stage: str) -> UserError | None:
    """The line for an error of the system or for too little memory; None for an error that is a mistake of ours."""
    if is_out_of_memory(error):
        return too_little_memory(error, run, stage)
    if isinstance(error, OSError) and error.errno is not None:
        return of_the_system(error)
    return None


def too_little_memory(error: Exception, run: Run, stage: str) -> UserError:
    """The line for a memory that is too small for the work of a stage."""
    remedy = "choose smaller batches (distill.batch_syn, buffer.batch, evaluate.batch) or another device"
    if stage != "buffer" and run.settings.distill.engine == "unroll":
        remedy = "set distill.engine=adjoint, which holds one step at a time"
    return UserError(f"{run.settings.runtime.device} has too little memory ({told(error)}); {remedy}")
