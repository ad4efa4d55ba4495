"""How hard each training image is: scores that a curriculum orders images by, and that a set may start from.

They are those of a file, or come from networks that are trained here for a short while. Each network's judgement is
kept in the work folder, in a folder for all experts and sets that ask for the same scores.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from attcli import runtime
from attcli.atomic import atomic
from attcli.errors import DivergedError, OutOfTimeError, UserError
from attcli.progress import track
from attcli.scoring.difficulty import Judge, Judgement, combined, easiest_first, forget, judged
from attcli.scoring.networks import Networks
from attcli.scoring.protocol import Protocol
from attcli.scoring.training import StoppedError
from attcli.settings import Settings
from attcli.settings.choices import SCORES
from attcli.stages import identity, inputs
from attcli.stages.interrupt import deferred
from attcli.stages.run import Run
from attcli.store import dataset, npz
from attcli.store.files import set_aside
from attcli.store.hdf5 import BadFileError
from attcli.trainers.curriculum import Curriculum

PURPOSE = "difficulty"
"""The purpose in the keys of all draws of these trainings."""


def scores(run: Run, data: dataset.Dataset) -> Tensor:
    """How hard each training image is, f64 (N,), in the dataset's order; a higher score is harder.

    UserError for a file that does not hold them, OutOfTimeError where the time limit ends before all networks are done.
    """
    buffer, count = run.settings.buffer, len(data.labels["train"])
    if buffer.difficulty not in SCORES:
        return _read(Path(buffer.difficulty), count)
    return combined(buffer.difficulty, _judgements(run, data))


def curriculum(run: Run, data: dataset.Dataset) -> Curriculum | None:
    """Which training images experts meet when; None where they meet all in every epoch."""
    buffer = run.settings.buffer
    if buffer.curriculum == "none":
        return None
    members = easiest_first(scores(run, data), data.labels["train"], len(data.about["classes"]))
    return Curriculum(members, buffer.curriculum_start, buffer.curriculum_growth)


def _read(path: Path, count: int) -> Tensor:
    """The scores of a file. UserError where it does not hold a finite number for each training image."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                values = np.asarray(np.lib.format.read_array(file, allow_pickle=False), dtype=np.float64)
        else:
            values = np.loadtxt(path, dtype=np.float64, delimiter=",", ndmin=1)
    except npz.UNREADABLE as error:
        raise UserError(
            f"{path} does not hold scores of images ({error}); name a .npy file, or a text file with a number per line"
        ) from None
    if values.shape != (count,) or not np.isfinite(values).all():
        raise UserError(
            f"{path} holds {'x'.join(map(str, values.shape))} numbers, and there are {count} training images; it needs "
            f"a finite score for each of them, in the order of dataset.h5"
        )
    return torch.from_numpy(values)


def _judgements(run: Run, data: dataset.Dataset) -> list[Judgement]:
    """The judgements of all networks; those that are not kept are made."""
    fingerprint, _ = identity.difficulty(run.settings, data.sha256)
    folder, count = run.work("difficulty", fingerprint), run.settings.buffer.difficulty_networks
    images = len(data.labels["train"])
    if any(kept(folder, number, images) is None for number in range(count)):
        with run.working_at(folder, "difficulty"):
            missing = [number for number in range(count) if kept(folder, number, images) is None]
            _judge(run, data, folder, missing, count)
    judgements = [kept(folder, number, images) for number in range(count)]
    return [judgement for judgement in judgements if judgement is not None]


def _judge(run: Run, data: dataset.Dataset, folder: Path, missing: list[int], wanted: int) -> None:
    """Train these networks one after the other; what each says is kept. One is trained under any time limit."""
    if not missing:  # another process was faster
        return
    trained = _Judges(run, data, folder)
    message = "training {} of {} networks for {} epochs, to find out how hard images are"
    logger.info(message, len(missing), wanted, run.settings.buffer.difficulty_epochs)
    with deferred() as stop, track("networks", wanted, wanted - len(missing)) as progress:
        for number in missing:
            if stop.asked:
                return
            if run.out_of_time() and number != missing[0]:
                raise OutOfTimeError(f"{number} of {wanted} networks have judged the images")
            try:
                judgement = trained.judgement(number, lambda: stop.asked)
            except StoppedError:
                return
            with atomic(_file(folder, number)) as temporary, temporary.open("wb") as file:
                np.savez(file, **{score: values.numpy() for score, values in judgement.items()})  # type: ignore[arg-type]
            forget(folder, trained.key(number))
            progress.advance("")


class _Judges:
    """The networks' common images and step functions, and the folder in which their trainings are saved."""

    def __init__(self, run: Run, data: dataset.Dataset, folder: Path) -> None:
        buffer, how = run.settings.buffer, run.settings.runtime
        device, self._folder = runtime.device(how.device), folder
        self._networks = Networks(device, buffer.precision, how)
        self._architecture = inputs.architecture(run.settings.network, data.about)
        self._images = data.network_inputs("train", device, self._networks.dtype)
        self._labels = data.labels["train"].to(device)
        self._lr, self._seed = buffer.lr, run.settings.seed_of("buffer")
        self._protocol, self._grand = protocol(run.settings), buffer.difficulty == "grand"
        passes = buffer.difficulty_networks * buffer.difficulty_epochs
        one = self._images[torch.zeros(1, dtype=torch.long, device=device)]
        shaped = one.expand(len(self._labels), *one.shape[1:])
        self._networks.prepare(self._architecture, shaped, buffer.batch, passes)

    def key(self, number: int) -> Judge:
        """The key of all draws of network `number`."""
        return self._seed, PURPOSE, number

    def judgement(self, number: int, stop: Callable[[], bool]) -> Judgement:
        """What network `number` says. DivergedError where its training left the finite numbers."""
        judgement = judged(
            self._networks,
            self._architecture,
            self._images,
            self._labels,
            self._lr,
            self._protocol,
            self.key(number),
            stop,
            self._folder,
            grand=self._grand,
        )
        if not all(bool(values.isfinite().all()) for values in judgement.values()):
            raise DivergedError("a training that tells how hard images are diverged; lower buffer.lr")
        return judgement


def protocol(settings: Settings) -> Protocol:
    """How these networks are trained: at the experts' rate, by batches and augmentation like theirs, with momentum."""
    buffer = settings.buffer
    return Protocol("exact", epochs=buffer.difficulty_epochs, batch=buffer.batch, augment=buffer.augment)


def _file(folder: Path, number: int) -> Path:
    return folder / f"network-{number:04d}.npz"


def kept(folder: Path, number: int, count: int) -> Judgement | None:
    """What a network said of `count` images, if it is kept; a file that is damaged is set aside."""
    path = _file(folder, number)
    if not path.exists():
        return None
    try:
        judgement = {score: torch.from_numpy(values) for score, values in npz.read(path).items()}
        if not judgement or any(values.shape != (count,) for values in judgement.values()):
            raise BadFileError("it is of other images")
    except (BadFileError, TypeError) as error:
        set_aside(path, error)
        return None
    return judgement
