"""buffer: expert networks are trained on the real images, and their parameters kept after every epoch."""

import os
from pathlib import Path
from typing import Any

from loguru import logger

from attcli.errors import DamagedError, UserError
from attcli.progress import track
from attcli.settings.completeness import DVC_MARK
from attcli.stages import compacting, difficulty, identity, inputs, jobs, restoring
from attcli.stages.expert_training import Told, Trainer
from attcli.stages.interrupt import deferred
from attcli.stages.run import Run, may_write
from attcli.store import dataset, experts
from attcli.store.files import set_aside
from attcli.store.publishing import publish


def run(run: Run) -> None:
    """Train the experts that are missing, for the epochs that are missing.

    DVC runs every stage; where distilling reads no experts, there are none then.
    """
    settings = run.settings
    if DVC_MARK in os.environ and not settings.reads_experts:
        run.experts.mkdir(parents=True, exist_ok=True)
        logger.info("method {} reads no experts, so none are trained", settings.distill.method)
        return
    data = inputs.read_dataset(run)
    fingerprint, decisive = identity.buffer(settings, data.sha256)
    wanted, epochs = settings.buffer.experts, settings.epochs
    with run.publishing():
        for file in experts.present(run.experts):
            if not may_write(run, file, experts.KIND, experts.MAKER, fingerprint, decisive):
                file.unlink()
        if settings.buffer.waypoints is not None:
            if not _compact(run, data, (fingerprint, decisive)):
                return
        elif settings.buffer.imported:
            restoring.restore(run, fingerprint, run.experts)
            return
        elif not _make(run, data, fingerprint, decisive, run.experts):
            return
    logger.info("{} holds {} experts of {} epochs", run.experts, wanted, epochs)


def _make(run: Run, data: dataset.Dataset, fingerprint: str, decisive: dict[str, object], to: Path) -> bool:
    """Train the experts that are missing in the folder `to`; whether all are there in the end, in time."""
    kept = run.work("buffer", fingerprint)
    every = range(run.settings.buffer.experts)
    if run.fresh == "buffer" or not all(_published(to, kept, i, run.settings.epochs) for i in every):
        with run.working("buffer", fingerprint) as folder:
            _train(run, data, fingerprint, decisive, folder, to)
            return not run.out_of_time()
    return True


def _compact(run: Run, data: dataset.Dataset, made_by: identity.Identity) -> bool:
    """Write compact experts among the results, of whole ones that are made first; whether all are there, in time.

    The whole ones stay in the work folder of the compact ones, linked to their own.
    """
    settings = run.settings
    targets = [experts.path(run.experts, index) for index in range(settings.buffer.experts)]
    if run.fresh != "buffer" and all(t.exists() and experts.epochs_of(t) == settings.epochs for t in targets):
        return True
    whole = identity.buffer(identity.whole_experts(settings), data.sha256)
    for target in targets:
        _refuse_shortening(run, target, run.work("buffer", whole[0]))
    with run.working_at(run.work("buffer", made_by[0]), "compact") as sources:
        if settings.buffer.imported:
            restoring.restore(run, whole[0], sources)
        else:
            for file in experts.present(sources) if run.fresh == "buffer" else []:
                file.unlink()
            if not _make(run, data, *whole, sources):
                return False
        with track("experts", len(targets)) as progress:
            for index, target in enumerate(targets):
                compacting.compact(experts.path(sources, index), target, made_by, settings.epochs)
                progress.advance(target.name)
    return True


def _refuse_shortening(run: Run, target: Path, whole: Path) -> None:
    """UserError where a compact expert of more epochs would go, and nothing kept could make it again.

    A compact expert lacks the networks that a shorter one is made of.
    """
    has = experts.epochs_of(target) if target.exists() else 0
    if has <= run.settings.epochs or run.force or run.fresh == "buffer":
        return
    if experts.kept_epochs(whole / target.name) < has:
        raise UserError(
            f"{target} is a compact expert of {has} epochs, and {run.settings.epochs} are asked for, for which it "
            f"would be trained anew; add --set buffer.epochs={has}, or --force"
        )


def _published(to: Path, folder: Path, index: int, epochs: int) -> bool:
    """Whether the folder `to` holds an expert with exactly so many epochs; it is taken from the kept work if need be.

    What is kept is verified before it is published. What is damaged is set aside, to be trained again. A published
    file never holds momentum, as those of earlier versions did, so that it does not tell how it came about.
    """
    target, kept = experts.path(to, index), experts.path(folder, index)
    if target.exists() and experts.epochs_of(target) == epochs and not experts.holds_momentum(target):
        return True
    for source in (kept, target):
        if not source.exists():
            continue
        try:
            header, trajectory = experts.read(source)
        except DamagedError as error:
            set_aside(source, error)
            continue
        if trajectory.epochs == epochs and trajectory.velocity is None:
            publish(source, target)
            return True
        if trajectory.epochs >= epochs:
            _adopt(target, kept)
            experts.write(target, header, trajectory.first(epochs))
            return True
    return False


def _adopt(published: Path, file: Path) -> None:
    """Take an expert that is in the results only (restored or copied there) into the work folder."""
    if published.exists() and (not file.exists() or experts.epochs_of(published) > experts.epochs_of(file)):
        publish(published, file)


def _train(
    run: Run, data: dataset.Dataset, fingerprint: str, decisive: dict[str, object], folder: Path, to: Path
) -> None:
    """Train what is missing in the work folder, and publish each expert in the folder `to` when it is finished."""
    wanted, epochs = run.settings.buffer.experts, run.settings.epochs
    for index in range(wanted):
        if experts.path(to, index).exists():
            _adopt(experts.path(to, index), experts.path(folder, index))
    missing = [index for index in range(wanted) if not _published(to, folder, index, epochs)]
    if not missing:
        return
    own = run.ranks.share(missing)
    done = {index: min(epochs, experts.kept_epochs(experts.path(folder, index))) for index in missing}
    left = sum(epochs - have for have in done.values())
    processes = f" by {run.ranks.size} processes, of which this one trains {len(own)}" if run.ranks.several else ""
    logger.info(
        "training {} experts to {} epochs each, {} of these epochs still to be trained{}",
        wanted,
        epochs,
        left,
        processes,
    )
    total = epochs * (wanted - len(missing) + len(own))
    difficulty.curriculum(run, data)  # other processes find its scores when they begin
    with run.tracking("buffer", folder.name) as log:

        def logged(index: int, epoch: int, loss: float, accuracy: float) -> None:
            log(index * epochs + epoch, {"loss": loss, "accuracy": accuracy, "expert": index})

        job = jobs.shared(
            run, "buffer", making=[fingerprint, decisive], folders=[str(folder), str(to)], missing=missing
        )
        with job, track("expert epochs", total, total - sum(epochs - done[index] for index in own)) as progress:

            def told(index: int, epoch: int, loss: float, accuracy: float) -> None:
                progress.advance(f"expert {index}, loss {loss:.3f}, accuracy {accuracy:.1f} %")
                logged(index, epoch, loss, accuracy)

            _train_own(run, Trainer(run, data, fingerprint, decisive), folder, to, own, told)
        for index in sorted({*missing} - {*own}):
            file = experts.path(folder, index)
            whole = (run.out_of_time() or jobs.appears(file)) and _published(to, folder, index, epochs)
            if not whole and run.out_of_time():
                continue
            if not whole:
                raise UserError(
                    f"expert {index} is not in {folder}, where another process has trained it; all machines have to "
                    f"share the folders runtime.work_dir and runtime.artifacts"
                )
            trajectory = experts.read(experts.path(folder, index))[1]
            for epoch, measured in enumerate(zip(trajectory.loss, trajectory.accuracy, strict=True)):
                logged(index, epoch, *measured)


def share(run: Run, job: jobs.Job, making: list[Any], folders: list[str], missing: list[int]) -> None:
    """A rank's part in training experts: its own, in the work folder that rank 0 holds."""
    trainer = Trainer(run, inputs.read_dataset(run), *making)
    folder, to = map(Path, folders)
    _train_own(run, trainer, folder, to, run.ranks.share(missing), lambda *told: None)


def _train_own(run: Run, trainer: Trainer, folder: Path, to: Path, own: list[int], told: Told) -> None:
    """Train some experts, and publish each when it is finished."""
    with deferred() as stop:
        for index in own:
            file = experts.path(folder, index)
            if trainer.train(index, run.settings.epochs, file, told, stop):
                publish(file, experts.path(to, index))
            if stop.asked or run.out_of_time():
                return
