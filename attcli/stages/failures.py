"""What a command says of a disk or a memory that is too small, in the same words in all processes that share it."""

from attcli import registry
from attcli.errors import UserError, of_the_system
from attcli.matching.halving import is_out_of_memory, told
from attcli.settings.choices import read_by, unrolls
from attcli.stages.run import Run

IN_BATCHES = {f"distill.{name}" for name in ("batch_syn", "real_batch", "real_per_class", "network_batch")}
"""The settings of distilling that say how many images are taken at a time; each objective reads some."""

FROM = {"buffer": ("buffer", "distill", "evaluate"), "distill": ("distill", "evaluate"), "evaluate": ("evaluate",)}
"""For each stage the commands that make its results, themselves or because they are missing."""


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
    batches = _batches(run, stage)
    remedy = f"choose smaller batches ({', '.join(batches)}) or another device" if batches else "choose another device"
    if stage in FROM["distill"] and unrolls(run.settings.distill):
        remedy = "set distill.engine=adjoint, which holds one step at a time"
    return UserError(f"{run.settings.runtime.device} has too little memory ({told(error)}); {remedy}")


def _batches(run: Run, stage: str) -> list[str]:
    """The settings that say how many images are taken at a time, by a stage and those that its command makes before."""
    objective = run.settings.distill.objective
    read = {*read_by(objective), *(f"distill.{option}" for option in registry.options("objective", objective))}
    of_stages = {"buffer": ["buffer.batch"], "distill": [*IN_BATCHES & read], "evaluate": ["evaluate.batch"]}
    return [name for own, names in of_stages.items() for name in sorted(names) if stage in FROM[own]]
