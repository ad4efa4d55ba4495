"""buffer: expert networks are trained on the real images, and their parameters kept after every epoch."""

import time
from pathlib import Path

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from attcli import execution, runtime, trainers
from attcli.errors import DivergedError
from attcli.matching.parameters import vector
from attcli.progress import Track, track
from attcli.stages import identity, inputs
from attcli.stages.interrupt import Stop, deferred
from attcli.stages.run import Run, may_write
from attcli.store import artefact, dataset, experts
from attcli.store.files import publish
from attcli.trainers.training import Optimiser, train_epoch

SAVE_SECONDS = 20.0
"""A training that takes long is saved this often, after an epoch."""


def run(run: Run) -> None:
    """Train the experts that are missing, for the epochs that are missing."""
    settings = run.settings
    data = inputs.read_dataset(run)
    fingerprint, chosen = identity.buffer(settings, data.sha256)
    for file in experts.present(run.experts):
        if not may_write(run, file, experts.KIND, experts.MAKER, fingerprint, chosen):
            file.unlink()
    with run.working("buffer", fingerprint) as folder:
        wanted, epochs = settings.buffer.experts, settings.epochs
        files = [experts.path(folder, i) for i in range(wanted)]
        for file in files:
            _adopt(run.experts / file.name, file)
        done = [experts.epochs_of(file) if file.exists() else 0 for file in files]
        missing = sum(max(0, epochs - have) for have in done)
        if missing:
            trainer = _Trainer(run, data, fingerprint, chosen)
            logger.info("training {} experts to {} epochs each, {} epochs in all", wanted, epochs, missing)
            with deferred() as stop, track("expert epochs", wanted * epochs, wanted * epochs - missing) as progress:
                for index, (file, have) in enumerate(zip(files, done, strict=True)):
                    if have < epochs:
                        experts.write(file, *trainer.train(index, epochs, file, progress, stop))
                    if stop.asked or run.out_of_time():
                        break
                    publish(file, experts.path(run.experts, index))
        if run.out_of_time():
            return
        for index, file in enumerate(files):
            publish(file, experts.path(run.experts, index))
    logger.info("{} holds {} experts of at least {} epochs", run.experts, wanted, epochs)


def _adopt(published: Path, file: Path) -> None:
    """Take an expert that is in the results only (restored or copied there) into the work folder."""
    if published.exists() and (not file.exists() or experts.epochs_of(published) > experts.epochs_of(file)):
        publish(published, file)


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
            filled_up=len(self._images) % batch > 0,
            images=len(self._images) * wanted.experts * run.settings.epochs,
            dtype=self._dtype,
        )
        self._steps = execution.steps(
            student,
            self._architecture.build,
            work,
            self._device,
            how.execution,
            how.micro_batch,
        )
        given = wanted.model_dump(include=set(trainers.options(wanted.trainer)))
        self._descent = trainers.load(wanted.trainer, **given)
        layout = student.layout
        about = {
            **data.about,
            "network": identity.network(run.settings.network),
            "layout": [[name, list(shape)] for name, shape in zip(layout.names, layout.shapes, strict=True)],
            "dataset_sha256": data.sha256,
            "seed": run.settings.seed_of("buffer"),
        }
        self._header = artefact.Header(experts.KIND, fingerprint, dict(chosen), about, runtime.versions())

    def _begin(self, index: int) -> experts.Trajectory:
        seed = self._settings.seed_of("buffer")
        theta = vector(runtime.seeded(self._architecture.build, seed, "expert-weights", index))
        return experts.Trajectory([theta.to(self._dtype).numpy()], [], [])

    def train(
        self, index: int, epochs: int, file: Path, progress: Track, stop: Stop
    ) -> tuple[artefact.Header, experts.Trajectory]:
        """Expert `index`, trained to `epochs` or until it has to stop, going on from what `file` holds.

        A long training is saved there meanwhile.
        """
        buffer = self._settings.buffer
        trajectory = experts.read(file)[1] if file.exists() else self._begin(index)
        theta = torch.from_numpy(trajectory.parameters[-1].copy()).to(self._device)
        optimiser = Optimiser(buffer.lr, buffer.momentum, buffer.weight_decay)
        if trajectory.velocity is not None:
            optimiser.velocity = torch.from_numpy(trajectory.velocity).to(self._device)
        saved, kept = time.monotonic(), trajectory.epochs
        try:
            while trajectory.epochs < epochs and not stop.asked and not self._out_of_time():
                trajectory = self._epoch(index, theta, optimiser, trajectory)
                progress.advance(
                    f"expert {index}, loss {trajectory.loss[-1]:.3f}, accuracy {trajectory.accuracy[-1]:.1f} %"
                )
                if trajectory.epochs < epochs and time.monotonic() - saved > SAVE_SECONDS:
                    experts.write(file, self._header, trajectory)
                    saved, kept = time.monotonic(), trajectory.epochs
        except BaseException:
            if trajectory.epochs > kept:
                experts.write(file, self._header, trajectory)
            raise
        return self._header, trajectory

    def _epoch(
        self, index: int, theta: Tensor, optimiser: Optimiser, trajectory: experts.Trajectory
    ) -> experts.Trajectory:
        """The trajectory with one more epoch. DivergedError if the training did."""
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
            generator=runtime.stream(self._settings.seed_of("buffer"), "expert-epoch", index, trajectory.epochs),
        )
        loss, accuracy = measured.tolist()
        if not np.isfinite(loss) or not bool(theta.isfinite().all()):
            raise DivergedError(f"expert {index} diverged in epoch {trajectory.epochs}; lower buffer.lr")
        velocity = None if optimiser.velocity is None else optimiser.velocity.cpu().numpy().copy()
        return trajectory.extended(theta.cpu().numpy().copy(), loss, accuracy, velocity)
