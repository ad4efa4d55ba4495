"""Imported experts are taken from the work folder, as they cannot be trained again."""

from pathlib import Path

from attcli.errors import UserError
from attcli.stages.run import Run
from attcli.store import experts
from attcli.store.publishing import publish


def restore(run: Run, fingerprint: str, to: Path) -> None:
    """Take imported experts from the kept work where the folder `to` lacks them; it then holds all of them, whole.

    UserError where there are not as many, or not as long, as asked for: they cannot be trained.
    """
    settings, name = run.settings, run.settings.buffer.imported
    if run.fresh == "buffer":
        raise UserError(f"the experts {name} were imported and can't be trained anew; leave --fresh out")
    with run.working_at(run.work("buffer", fingerprint), "buffer") as kept:
        for file in experts.present(to):
            publish(file, kept / file.name)
        for file in experts.present(kept):
            publish(file, to / file.name)
    lengths = [experts.epochs_of(file) for file in experts.present(to)]
    if not lengths:
        raise UserError(f"the experts {name} are not here; import their files again, for this dataset and network")
    if len(lengths) < settings.buffer.experts:
        raise UserError(
            f"{settings.buffer.experts} experts are asked for, {name} has {len(lengths)}; say --experts {len(lengths)}"
        )
    if min(lengths) < settings.epochs:
        raise UserError(
            f"{settings.epochs} epochs of experts are asked for, those of {name} have {min(lengths)}; lower "
            f"distill.max_start_epoch or distill.expert_epochs"
        )
