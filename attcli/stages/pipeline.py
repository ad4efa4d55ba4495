"""The stages in their order: each is run after what it needs was made, where that is missing and may be made."""

from pathlib import Path
from typing import Any

from loguru import logger

from attcli.errors import OutOfTimeError, UserError
from attcli.stages import buffer as experts_stage
from attcli.stages import continued, identity, inputs
from attcli.stages import distill as distill_stage
from attcli.stages import evaluate as evaluate_stage
from attcli.stages import prepare as prepare_stage
from attcli.stages.of_a_set import as_distilled
from attcli.stages.run import OTHERWISE, Run, differences, refuse
from attcli.store import artefact, experts, synthetic
from attcli.store.files import write_text


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
        run.evaluating.unlink(missing_ok=True)
        _distill(run)


def _distill(run: Run) -> None:
    _refuse_own_results(run)
    if run.auto:
        prepare_stage.run(run)
        asked = identity.distillation(run.settings)  # what cannot be read is told before experts are trained in vain
        if run.settings.distill.start_from is not None:
            continued.check(run.settings.distill.start_from, run.settings, inputs.read_dataset(run))
        if run.synthetic.exists() and not run.force:
            kept = artefact.header(run.synthetic, synthetic.KIND, synthetic.MAKER).settings
            if differences(kept, asked):
                raise refuse(run.synthetic, kept, asked, OTHERWISE)
        if run.settings.reads_experts:
            experts_stage.run(run)
        if run.out_of_time():
            logger.warning("stopped by the time limit before the first iteration; run again to continue")
            return
    distill_stage.run(run)


def _refuse_own_results(run: Run) -> None:
    """UserError where a distillation is to start from a set that it would replace."""
    path = run.settings.distill.start_from
    if path is None:
        return
    if path.resolve() == run.synthetic.resolve() or path.resolve().parent == run.snapshots.resolve():
        raise UserError(
            f"{path} is among the results that this distillation would replace; write others with --artifacts DIR, or "
            f"copy it elsewhere first"
        )


def evaluate(run: Run, path: Path | None = None) -> dict[str, Any]:
    """Score the set in `path`, or the one among the results, which is distilled now if it is missing.

    A distillation that was ended by a time limit, or that this function began, goes on before it is scored.
    OutOfTimeError where the time limit ends before the scores are complete.
    """
    if path is not None and (run.dataset.exists() or not run.auto):
        return evaluate_stage.run(run, path)  # nothing is written among the results
    with run.publishing():
        if run.auto:
            if path is None and (not run.synthetic.exists() or goes_on(run)):
                write_text(run.evaluating, f"{_identity(run)}\n")
                _distill(run)
                if run.out_of_time() and not is_done(run, "distill"):
                    raise OutOfTimeError("the set is not distilled yet")
                run.evaluating.unlink(missing_ok=True)
            elif not run.dataset.exists():
                prepare(as_distilled(run, path or run.synthetic, path))
        return evaluate_stage.run(run, path)


def goes_on(run: Run) -> bool:
    """Whether `evaluate` goes on with the distillation of the results' set, which is not finished.

    It does so where it began that distillation itself, and where the run has a time limit, as one may have ended it.
    """
    if run.time_limit is None and _begun_by_evaluate(run) != _identity(run):
        return False
    header = artefact.header(run.synthetic, synthetic.KIND, synthetic.MAKER)
    same = not differences(header.settings, identity.distillation(run.settings))
    return same and header.about["iteration"] < run.settings.distill.iterations


def _begun_by_evaluate(run: Run) -> str | None:
    try:
        return run.evaluating.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _identity(run: Run) -> str:
    return artefact.fingerprint("distill", 0, identity.distillation(run.settings), {})


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
