"""buffer: expert networks are trained on the real images, and their parameters kept after every epoch."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from attcli import execution, registry, runtime, trainers
from attcli.errors import DamagedError, DivergedError, UserError
from attcli.matching.parameters import vector
from attcli.progress import track
from attcli.settings.completeness import DVC_MARK
from attcli.stages import compacting, difficulty, identity, inputs, jobs, restoring
from attcli.stages.interrupt import Stop, deferred
from attcli.stages.run import Run, may_write
from attcli.store import artefact, dataset, experts
from attcli.store.files import set_aside
from attcli.store.growing import Growing
from attcli.store.publishing import publish
from attcli.trainers.training import Optimiser, train_epoch

Told = Callable[[int, int, float, float], None]
"""Is told of every epoch that is done: the expert, the epoch, its loss and its accuracy."""


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
    logger.info("training {} experts to {} epochs each, {} still to be trained{}", wanted, epochs, left, processes)
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

            _train_own(run, _Trainer(run, data, fingerprint, decisive), folder, to, own, told)
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
    trainer = _Trainer(run, inputs.read_dataset(run), *making)
    folder, to = map(Path, folders)
    _train_own(run, trainer, folder, to, run.ranks.share(missing), lambda *told: None)


def _train_own(run: Run, trainer: "_Trainer", folder: Path, to: Path, own: list[int], told: Told) -> None:
    """Train some experts, and publish each when it is finished."""
    with deferred() as stop:
        for index in own:
            file = experts.path(folder, index)
            trainer.train(index, run.settings.epochs, file, told, stop)
            if stop.asked or run.out_of_time():
                return
            publish(file, experts.path(to, index))


def _short(met: list[int], batch: int) -> int:
    """The images of a short batch, if epochs of so many images leave one: of a single image, if one does.

    An epoch of fewer images than a batch is one batch.
    """
    left = {count % min(batch, count) for count in met} - {0}
    return 1 if 1 in {*left, *met} else max(left, default=0)


class _Trainer:
    """Trains one expert after the other on images that are held, or read batch by batch."""

    def __init__(self, run: Run, data: dataset.Dataset, fingerprint: str, decisive: dict[str, object]) -> None:
        self._settings = run.settings
        self._out_of_time = run.out_of_time
        self._device = runtime.device(run.settings.runtime.device)
        self._dtype = execution.dtype(run.settings.buffer.precision)
        self._images = data.network_inputs("train", self._device, self._dtype)
        self._labels = data.labels["train"].to(self._device)
        self._curriculum = difficulty.curriculum(run, data)
        self._architecture = inputs.architecture(run.settings.network, data.about)
        how, wanted = run.settings.runtime, run.settings.buffer
        student = execution.student(self._architecture.build, self._device, wanted.precision)
        execution.set_precision(wanted.precision)
        met = [self._met(epoch) for epoch in range(run.settings.epochs)]
        work = execution.Work(
            image=tuple(self._images.shape[1:]),
            classes=self._architecture.classes,
            batch=min(wanted.batch, max(met)),
            short=_short(met, wanted.batch),
            images=sum(met) * wanted.experts * trainers.gradients(wanted.trainer),
            dtype=self._dtype,
        )
        execution.use_threads(how.threads, self._architecture.build, work)
        self._step_functions = execution.step_functions(
            student,
            self._architecture.build,
            work,
            self._device,
            how.execution,
            how.micro_batch,
        )
        options = wanted.model_dump(include=set(registry.options("trainer", wanted.trainer)))
        self._descent = trainers.load(wanted.trainer, **options)
        layout = student.layout
        about = {
            **data.about,
            "network": identity.network(run.settings),
            "layout": [[name, list(shape)] for name, shape in zip(layout.names, layout.shapes, strict=True)],
            "dataset_sha256": data.sha256,
            "seed": run.settings.seed_of("buffer"),
        }
        self._header = artefact.Header(experts.KIND, fingerprint, dict(decisive), about, runtime.versions())

    def _met(self, epoch: int) -> int:
        """How many images are met in an epoch."""
        return len(self._images) if self._curriculum is None else self._curriculum.count(epoch)

    def _growing(self, index: int, file: Path) -> Growing:
        """What is kept of an expert, to be trained further; with its initial parameters if nothing is."""
        dtype = np.dtype(str(self._dtype).removeprefix("torch."))
        growing = Growing(file, dtype, momentum=self._settings.buffer.momentum > 0)
        if file.exists() and experts.epochs_of(file) > growing.epochs:
            finished = experts.read(file)[1]
            known = growing.continue_from(finished)
            if known < finished.epochs:
                message = "the momentum after epoch {} of {} is not kept; it is trained again from epoch {} on"
                logger.warning(message, finished.epochs, file, growing.epochs)
        if growing.epochs < 0:
            seed = self._settings.seed_of("buffer")
            theta = vector(runtime.seeded(self._architecture.build, seed, "expert-weights", index))
            growing.append(theta.to(self._dtype).numpy(), None, None)
        return growing

    def train(self, index: int, epochs: int, file: Path, told: Told, stop: Stop) -> None:
        """Train expert `index` to `epochs`, or until it has to stop, going on from what is kept of it.

        Every epoch is kept as soon as it is done, and `told` with the expert, the epoch, its loss and accuracy. A
        finished expert is written to `file`.
        """
        buffer = self._settings.buffer
        growing = self._growing(index, file)
        kept = growing.trajectory()
        theta = torch.from_numpy(kept.parameters[-1].copy()).to(self._device)
        optimiser = Optimiser(buffer.lr, buffer.momentum, buffer.weight_decay)
        if kept.velocity is not None:
            optimiser.velocity = torch.from_numpy(kept.velocity.copy()).to(self._device)
        while growing.epochs < epochs:
            if stop.asked or self._out_of_time():
                return
            loss, accuracy = self._epoch(index, growing.epochs, theta, optimiser)
            stop.check()
            velocity = None if optimiser.velocity is None else optimiser.velocity.cpu().numpy()
            growing.append(theta.cpu().numpy(), loss, accuracy, velocity)
            told(index, growing.epochs - 1, loss, accuracy)
        experts.write(file, self._header, growing.trajectory())
        growing.remove()

    def _epoch(self, index: int, epoch: int, theta: Tensor, optimiser: Optimiser) -> tuple[float, float]:
        """Train one epoch, in place; loss and accuracy. DivergedError if the training did."""
        buffer = self._settings.buffer
        among = None if self._curriculum is None else self._curriculum.epoch(epoch).to(self._device)
        measured = train_epoch(
            self._step_functions,
            theta,
            optimiser,
            self._images,
            self._labels,
            classes=self._architecture.classes,
            batch=buffer.batch,
            strategy=buffer.augment,
            descent=self._descent,
            generator=runtime.stream(self._settings.seed_of("buffer"), "expert-epoch", index, epoch),
            among=among,
        )
        loss, accuracy = measured.tolist()
        if not np.isfinite(loss) or not bool(theta.isfinite().all()):
            raise DivergedError(f"expert {index} diverged in epoch {epoch}; lower buffer.lr")
        return loss, accuracy
