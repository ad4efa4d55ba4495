"""buffer: expert networks are trained on the real images, and their parameters kept after every epoch."""

from pathlib import Path

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from attcli import execution, registry, runtime, trainers
from attcli.errors import DamagedError, DivergedError
from attcli.matching.parameters import vector
from attcli.progress import Track, track
from attcli.stages import identity, inputs
from attcli.stages.interrupt import Stop, deferred
from attcli.stages.run import Run, may_write
from attcli.store import artefact, dataset, experts
from attcli.store.files import publish, set_aside
from attcli.trainers.training import Optimiser, train_epoch


def run(run: Run) -> None:
    """Train the experts that are missing, for the epochs that are missing."""
    settings = run.settings
    data = inputs.read_dataset(run)
    fingerprint, decisive = identity.buffer(settings, data.sha256)
    wanted, epochs = settings.buffer.experts, settings.epochs
    with run.publishing():
        for file in experts.present(run.experts):
            if not may_write(run, file, experts.KIND, experts.MAKER, fingerprint, decisive):
                file.unlink()
        kept = run.work("buffer", fingerprint)
        if run.fresh == "buffer" or not all(_published(run, kept, i, epochs) for i in range(wanted)):
            with run.working("buffer", fingerprint) as folder:
                _train(run, data, fingerprint, decisive, folder)
                if run.out_of_time():
                    return
    logger.info("{} holds {} experts of {} epochs", run.experts, wanted, epochs)


def _published(run: Run, folder: Path, index: int, epochs: int) -> bool:
    """Whether the results hold an expert with exactly so many epochs; it is taken from the kept work if need be.

    What is kept is verified before it is published. What is damaged is set aside, to be trained again.
    """
    target, kept = experts.path(run.experts, index), experts.path(folder, index)
    if target.exists() and experts.epochs_of(target) == epochs:
        return True
    for source in (kept, target):
        if not source.exists():
            continue
        try:
            header, trajectory = experts.read(source)
        except DamagedError as error:
            set_aside(source, error)
            continue
        if trajectory.epochs == epochs:
            publish(source, target)
            return True
        if trajectory.epochs > epochs:
            _adopt(target, kept)
            experts.write(target, header, _first_part(trajectory, epochs))
            return True
    return False


def _first_part(trajectory: experts.Trajectory, epochs: int) -> experts.Trajectory:
    """The first epochs of a longer training, as a shorter one would have left them (but for the momentum)."""
    rows = [trajectory.parameters[i] for i in range(epochs + 1)]
    return experts.Trajectory(rows, trajectory.loss[:epochs], trajectory.accuracy[:epochs])


def _adopt(published: Path, file: Path) -> None:
    """Take an expert that is in the results only (restored or copied there) into the work folder."""
    if published.exists() and (not file.exists() or experts.epochs_of(published) > experts.epochs_of(file)):
        publish(published, file)


def _train(run: Run, data: dataset.Dataset, fingerprint: str, decisive: dict[str, object], folder: Path) -> None:
    """Train what is missing in the work folder, and publish each expert when it is finished."""
    wanted, epochs = run.settings.buffer.experts, run.settings.epochs
    for index in range(wanted):
        if experts.path(run.experts, index).exists():
            _adopt(experts.path(run.experts, index), experts.path(folder, index))
    missing = [index for index in range(wanted) if not _published(run, folder, index, epochs)]
    if not missing:
        return
    done = {index: min(epochs, experts.kept_epochs(experts.path(folder, index))) for index in missing}
    left = sum(epochs - have for have in done.values())
    trainer = _Trainer(run, data, fingerprint, decisive)
    logger.info("training {} experts to {} epochs each, {} epochs in all", wanted, epochs, left)
    with deferred() as stop, track("expert epochs", wanted * epochs, wanted * epochs - left) as progress:
        for index in missing:
            file = experts.path(folder, index)
            trainer.train(index, epochs, file, progress, stop)
            if stop.asked or run.out_of_time():
                break
            publish(file, experts.path(run.experts, index))


class _Trainer:
    """Trains one expert after the other on images that stay on the device."""

    def __init__(self, run: Run, data: dataset.Dataset, fingerprint: str, chosen: dict[str, object]) -> None:
        self._settings = run.settings
        self._out_of_time = run.out_of_time
        self._device = runtime.device(run.settings.runtime.device)
        self._dtype = execution.dtype(run.settings.buffer.precision)
        self._images = data.inputs("train").to(self._device, self._dtype)
        self._labels = data.labels["train"].to(self._device)
        self._architecture = inputs.architecture(run.settings.network, data.about)
        how, wanted = run.settings.runtime, run.settings.buffer
        student = execution.student(self._architecture.build, self._device, wanted.precision)
        execution.set_precision(wanted.precision)
        batch = min(wanted.batch, len(self._images))
        work = execution.Work(
            image=tuple(self._images.shape[1:]),
            classes=self._architecture.classes,
            batch=batch,
            short=len(self._images) % batch,
            images=len(self._images) * wanted.experts * run.settings.epochs,
            dtype=self._dtype,
        )
        execution.use_threads(how.threads, self._architecture.build, work)
        self._steps = execution.steps(
            student,
            self._architecture.build,
            work,
            self._device,
            how.execution,
            how.micro_batch,
        )
        given = wanted.model_dump(include=set(registry.options("trainer", wanted.trainer)))
        self._descent = trainers.load(wanted.trainer, **given)
        layout = student.layout
        about = {
            **data.about,
            "network": identity.network(run.settings),
            "layout": [[name, list(shape)] for name, shape in zip(layout.names, layout.shapes, strict=True)],
            "dataset_sha256": data.sha256,
            "seed": run.settings.seed_of("buffer"),
        }
        self._header = artefact.Header(experts.KIND, fingerprint, dict(chosen), about, runtime.versions())

    def _growing(self, index: int, file: Path) -> experts.Growing:
        """What is kept of an expert, to be trained further; with its initial parameters if nothing is."""
        seed, momentum = self._settings.seed_of("buffer"), self._settings.buffer.momentum
        growing = experts.Growing(file, np.dtype(str(self._dtype).removeprefix("torch.")))
        if file.exists() and experts.epochs_of(file) > growing.epochs:
            growing.drop()
            finished = experts.read(file)[1]
            if momentum and finished.epochs and finished.velocity is None:
                logger.warning("{} does not hold the momentum of its end; it is trained anew", file)
            else:
                for epoch, row in enumerate(finished.parameters):
                    loss, accuracy = (finished.loss[epoch - 1], finished.accuracy[epoch - 1]) if epoch else (None, None)
                    growing.append(row, loss, accuracy, finished.velocity if epoch == finished.epochs else None)
        if growing.epochs < 0:
            theta = vector(runtime.seeded(self._architecture.build, seed, "expert-weights", index))
            growing.append(theta.to(self._dtype).numpy(), None, None)
        return growing

    def train(self, index: int, epochs: int, file: Path, progress: Track, stop: Stop) -> None:
        """Train expert `index` to `epochs`, or until it has to stop, going on from what is kept of it.

        Every epoch is kept as soon as it is done. A finished expert is written to `file`.
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
            velocity = None if optimiser.velocity is None else optimiser.velocity.cpu().numpy()
            growing.append(theta.cpu().numpy(), loss, accuracy, velocity)
            progress.advance(f"expert {index}, loss {loss:.3f}, accuracy {accuracy:.1f} %")
        experts.write(file, self._header, growing.trajectory())
        growing.remove()

    def _epoch(self, index: int, epoch: int, theta: Tensor, optimiser: Optimiser) -> tuple[float, float]:
        """Train one epoch, in place; loss and accuracy. DivergedError if the training did."""
        buffer = self._settings.buffer
        measured = train_epoch(
            self._steps,
            theta,
            optimiser,
            self._images,
            self._labels,
            classes=self._architecture.classes,
            batch=buffer.batch,
            strategy=buffer.augment,
            descent=self._descent,
            generator=runtime.stream(self._settings.seed_of("buffer"), "expert-epoch", index, epoch),
        )
        loss, accuracy = measured.tolist()
        if not np.isfinite(loss) or not bool(theta.isfinite().all()):
            raise DivergedError(f"expert {index} diverged in epoch {epoch}; lower buffer.lr")
        return loss, accuracy
