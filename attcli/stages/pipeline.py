"""The stages in their order: each is run after what it needs was made, where that is missing and may be made."""

from pathlib import Path
from typing import Any

from loguru import logger

from attcli.errors import OutOfTimeError
from attcli.stages import buffer as experts_stage
from attcli.stages import distill as distill_stage
from attcli.stages import evaluate as evaluate_stage
from attcli.stages import identity
from attcli.stages import prepare as prepare_stage
from attcli.stages.of_a_set import as_distilled
from attcli.stages.run import OTHERWISE, Run, differences, refuse
from attcli.store import artefact, experts, synthetic


def prepare(run: Run) -> None:
    """Make dataset.h5."""
    prepare_stage.run(run)


def buffer(run: Run) -> None:
    """Train the experts, on a dataset that is made if it is missing."""
    with run.publishing():
        if run.auto:
            prepare(run)
        experts_stage.run(run)


def distill(run: Run) -> None:
    """Distil, from experts that are trained if they are missing. UserError before any work if another set is there."""
    with run.publishing():
        _distill(run)


def _distill(run: Run) -> None:
    if run.auto:
        prepare_stage.run(run)
        if run.synthetic.exists() and not run.force:
            kept = artefact.header(run.synthetic, synthetic.KIND, synthetic.MAKER).settings
            if differences(kept, identity.distillation(run.settings)):  # said before experts are trained in vain
                raise refuse(run.synthetic, kept, identity.distillation(run.settings), OTHERWISE)
        if run.settings.reads_experts:
            experts_stage.run(run)
        if run.out_of_time():
            logger.warning("stopped by the time limit before the first iteration; run again to continue")
            return
    distill_stage.run(run)


def evaluate(run: Run, path: Path | None = None) -> dict[str, Any]:
    """Score the set in `path`, or the one among the results, which is distilled now if it is missing.

    Under a time limit it is also distilled further if such a limit had ended its distillation. OutOfTimeError where
    the limit ends before the scores are complete.
    """
    if path is not None and (run.dataset.exists() or not run.auto):
        return evaluate_stage.run(run, path)  # nothing is written among the results
    with run.publishing():
        if run.auto:
            if path is None and (not run.synthetic.exists() or was_stopped(run)):
                distill(run)
                if run.out_of_time() and not is_done(run, "distill"):
                    raise OutOfTimeError("the set is not distilled yet")
            elif not run.dataset.exists():
                prepare(as_distilled(run, path or run.synthetic, path))
        return evaluate_stage.run(run, path)


def was_stopped(run: Run) -> bool:
    """Whether this run has a time limit, and one ended the distillation that its settings ask for."""
    if run.time_limit is None:
        return False
    header = artefact.header(run.synthetic, synthetic.KIND, synthetic.MAKER)
    same = not differences(header.settings, identity.distillation(run.settings))
    return same and header.about["iteration"] < run.settings.distill.iterations


def is_done(run: Run, stage: str) -> bool:
    """Whether a stage that a time limit may have ended is finished."""
    settings = run.settings
    if stage == "buffer":
        files = [experts.path(run.experts, i) for i in range(settings.buffer.experts)]
        whole = bool(settings.buffer.imported)  # whatever epochs are asked for
        return all(file.exists() and (whole or experts.epochs_of(file) == settings.epochs) for file in files)
    if stage == "distill":
        header = artefact.header(run.synthetic, synthetic.KIND, synthetic.MAKER) if run.synthetic.exists() else None
        return header is not None and header.about["iteration"] >= settings.distill.iterations
    return True


def evaluate_snapshots(run: Run, *, literature: bool = False) -> dict[str, Any]:
    """Score the results' snapshots."""
    with run.publishing():
        return evaluate_stage.run_snapshots(run, literature=literature)
