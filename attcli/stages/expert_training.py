"""One expert is trained, epoch by epoch, each of which is kept as soon as it is done."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from attcli import execution, registry, runtime, trainers
from attcli.errors import DivergedError
from attcli.matching.parameters import vector
from attcli.stages import difficulty, identity, inputs
from attcli.stages.interrupt import Stop
from attcli.stages.run import Run
from attcli.store import artefact, dataset, experts
from attcli.store.growing import Growing
from attcli.trainers.training import Optimiser, train_epoch

Told = Callable[[int, int, float, float], None]
"""Is told of every epoch that is done: the expert, the epoch, its loss and its accuracy."""


def short_batch(met: list[int], batch: int) -> int:
    """The images of a short batch, if epochs of so many images leave one: of a single image, if one does.

    An epoch of fewer images than a batch is one batch.
    """
    left = {count % min(batch, count) for count in met} - {0}
    return 1 if 1 in {*left, *met} else max(left, default=0)


class Trainer:
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
            short=short_batch(met, wanted.batch),
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

    def train(self, index: int, epochs: int, file: Path, told: Told, stop: Stop) -> bool:
        """Train expert `index` to `epochs`, or until it has to stop, going on from what is kept of it.

        Every epoch is kept as soon as it is done, and `told` with the expert, the epoch, its loss and accuracy. A
        finished expert is written to `file`. Returns whether it is finished.
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
                return False
            loss, accuracy = self._epoch(index, growing.epochs, theta, optimiser)
            stop.check()
            velocity = None if optimiser.velocity is None else optimiser.velocity.cpu().numpy()
            growing.append(theta.cpu().numpy(), loss, accuracy, velocity)
            told(index, growing.epochs - 1, loss, accuracy)
        experts.write(file, self._header, growing.trajectory())
        growing.remove()
        return True

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
