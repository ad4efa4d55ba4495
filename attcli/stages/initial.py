"""What a distillation starts from: real images, noise, or images that experts get right; and soft labels' logits."""

import math
from collections.abc import Callable
from functools import cached_property

import torch
from loguru import logger
from torch import Tensor

from attcli import execution, runtime
from attcli.coding import Coding
from attcli.data.inputs import TOGETHER, at_a_time, of_each_class
from attcli.errors import UserError
from attcli.matching.statistics import calibrated
from attcli.matching.student import Student, has_batch_statistics
from attcli.options import share_of
from attcli.scoring.difficulty import easiest_first
from attcli.settings import Settings
from attcli.stages import continued, update
from attcli.store import dataset, experts, states

OWN_CLASS = 0.9
"""The probability of an image's own class in learned labels that start from classes."""

CALIBRATING = 2000
"""Training images that give an expert's batch norms their statistics, since those it judges may be all of one class."""


def begin(
    settings: Settings,
    data: dataset.Dataset,
    trajectories: experts.Experts,
    student: Student,
    decoder: Coding,
    device: torch.device,
    difficulty: Callable[[], Tensor],
) -> states.State:
    """The state before the first iteration, on the CPU: images class by class, as many of each as ipc pays for.

    `difficulty` tells how hard each training image is, f64 (N,). UserError if a class has too few images.
    """
    distill = settings.distill
    if distill.start_from is not None:
        return continued.begin(distill.start_from, settings, data, decoder)
    generator = runtime.stream(settings.seed_of("distill"), "initial-images")
    classes, per_class = len(data.about["classes"]), decoder.images_per_class(distill.ipc)
    hard = torch.arange(classes).repeat_interleave(per_class)
    judges = _Judges(trajectories, settings.label_epoch, student, device, data)
    if distill.init == "noise":
        shape = (len(hard), data.about["channels"], data.about["resolution"], data.about["resolution"])
        images = torch.randn(shape, generator=generator)
    else:
        try:
            if distill.init == "correct":
                picked = _correct(data, judges, per_class, generator)
            elif distill.init == "ranked":
                picked = _ranked(data, difficulty(), per_class, share_of(distill.rank_offset, per_class))
            else:
                picked = of_each_class(data.labels["train"], [per_class] * classes, generator)
        except ValueError as error:
            raise UserError(f"{error} of distill.ipc; lower it or set distill.init=noise") from None
        images = data.inputs("train", picked)
    dtype = execution.dtype(distill.precision)
    coded = decoder.encode(images.to(dtype), hard)
    scales = decoder.fit(coded.learned)
    labels = hard
    if distill.labels == "learned" and distill.label_init != "experts":
        labels = _first_logits(distill.label_init, hard, classes).to(dtype)
    elif distill.labels != "hard":
        labels = judges.soft_labels(decoder.images(coded, scales), hard)
    learned = {**coded.learned, **update.first_rates(settings, torch.tensor(distill.lr_init, dtype=dtype))}
    constants = {**coded.constants, **update.frozen(distill, decoder, classes)}
    if distill.labels == "learned":
        learned[states.LOGITS] = labels
        if of_labels := decoder.fit_labels(labels):
            scales[states.LOGITS] = of_labels
    else:
        constants[states.LABELS] = labels
    return update.first(distill, learned, constants, coded.learned, scales)


def _first_logits(kind: str, hard: Tensor, classes: int) -> Tensor:
    """Logits (n, K) of learned labels without experts: by images' own classes (n,), or uniform."""
    if kind == "uniform":
        return torch.zeros(len(hard), classes)
    logit = math.log(OWN_CLASS / (1 - OWN_CLASS) * max(1, classes - 1))
    return logit * torch.nn.functional.one_hot(hard, classes)


class _Judges:
    """The experts after one epoch, asked for their outputs."""

    def __init__(
        self,
        trajectories: experts.Experts,
        epoch: int | None,
        student: Student,
        device: torch.device,
        data: dataset.Dataset,
    ) -> None:
        self._trajectories, self._epoch, self._student, self._device = trajectories, epoch, student, device
        self._data = data
        self._calibrated: tuple[int, Student] | None = None

    def __len__(self) -> int:
        return len(self._trajectories)

    def logits(self, expert: int, images: Tensor) -> Tensor:
        """An expert's outputs (n, K) for network inputs (n, C, H, W), on the CPU."""
        assert self._epoch is not None
        theta = torch.from_numpy(self._trajectories.rows(expert, (self._epoch, self._epoch))[0])
        theta = theta.to(self._device, images.dtype)
        judge = self._judge(expert, theta)
        with torch.no_grad():
            parts = [judge.logits(theta, part.to(self._device)) for part in images.split(at_a_time(images))]
        return torch.cat(parts).cpu()

    def _judge(self, expert: int, theta: Tensor) -> Student:
        """The student that has an expert's parameters theta (P,), its batch norms with fixed statistics."""
        if not has_batch_statistics(self._student.module):
            return self._student
        if self._calibrated is None or self._calibrated[0] != expert:
            self._calibrated = expert, calibrated(self._student, theta, self._usual.to(theta))
        return self._calibrated[1]

    @cached_property
    def _usual(self) -> Tensor:
        """Training images (n, C, H, W) of all classes, whose statistics batch norms judge by."""
        labels = self._data.labels["train"]
        order = torch.randperm(len(labels), generator=runtime.stream(0, "statistics"))
        return self._data.inputs("train", order[:CALIBRATING])

    def soft_labels(self, images: Tensor, hard: Tensor) -> Tensor:
        """The mean logits (n, K) of the experts that are right about each image (DATM).

        Where none is right, it is the mean of all, its largest value exchanged with that of the true class.
        """
        total = images.new_zeros(len(images), int(hard.max()) + 1)
        of_right, right = torch.zeros_like(total), images.new_zeros(len(images), 1)
        for expert in range(len(self)):
            logits = self.logits(expert, images)
            correct = (logits.argmax(dim=1) == hard).unsqueeze(1)
            total += logits
            of_right += logits * correct
            right += correct
        every = total / len(self)
        rows = torch.arange(len(images))
        best = every.argmax(dim=1)
        exchanged = every.clone()
        exchanged[rows, best], exchanged[rows, hard] = every[rows, hard], every[rows, best]
        if missed := int((right == 0).sum()):
            logger.warning(
                "no expert is right about {} of {} initial images; their labels are amended", missed, len(hard)
            )
        return torch.where(right > 0, of_right / right.clamp(min=1), exchanged)


def _ranked(data: dataset.Dataset, scores: Tensor, count: int, passed_over: int) -> Tensor:
    """Indices of the hardest training images of each class, after so many that are passed over; hard ones first.

    ValueError where a class has fewer.
    """
    ranked = []
    for c, indices in enumerate(easiest_first(-scores, data.labels["train"], len(data.about["classes"]))):
        if len(indices) < passed_over + count:
            raise ValueError(f"class {c} has {len(indices)} images, fewer than {passed_over} + {count}")
        ranked.append(indices[passed_over : passed_over + count])
    return torch.cat(ranked)


def _correct(data: dataset.Dataset, judges: _Judges, ipc: int, generator: torch.Generator) -> Tensor:
    """Indices of ipc training images per class, in random order, that the first expert or a later one gets right.

    A class with too few of them is filled up with other images of it. ValueError if it has fewer than ipc.
    """
    labels = data.labels["train"]
    by_class = []
    for c in range(len(data.about["classes"])):
        (members,) = torch.nonzero(labels == c, as_tuple=True)
        if len(members) < ipc:
            raise ValueError(f"class {c} has {len(members)} images, fewer than {ipc}")
        waiting = members[torch.randperm(len(members), generator=generator)]
        picked = waiting[:0]
        for expert in range(len(judges)):
            others = []
            for part in waiting.split(TOGETHER):
                short = ipc - len(picked)
                right = judges.logits(expert, data.inputs("train", part)).argmax(dim=1) == c if short else part < 0
                passing = torch.nonzero(right)[:short, 0]
                picked = torch.cat([picked, part[passing]])
                kept = torch.ones(len(part), dtype=torch.bool)
                kept[passing] = False
                others.append(part[kept])
            waiting = torch.cat(others)
            if len(picked) == ipc:
                break
        if len(picked) < ipc:
            logger.warning(
                "experts get only {} images of class {} right; {} others join", len(picked), c, ipc - len(picked)
            )
            picked = torch.cat([picked, waiting[: ipc - len(picked)]])
        by_class.append(picked)
    return torch.cat(by_class)
