"""Real images in the place of a set: which ones a baseline selects, and the held-out ones its rate is chosen on."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from loguru import logger
from torch import Tensor

from attcli import baselines, runtime
from attcli.baselines import Budget
from attcli.data.inputs import Inputs
from attcli.networks import Architecture
from attcli.scoring.real import Labelled, Real
from attcli.scoring.whole import Trained, Whole, spec_of
from attcli.store.results import Key, Results

HELD_OUT = 2000
"""Where there is no validation split, a coreset's learning rate is chosen on so many other training images."""

Each = Callable[[Mapping[int, Any]], Iterator[tuple[int, Trained | None]]]
"""Runs trainings side by side, as `attcli.scoring.parallel` does."""


@dataclass(frozen=True)
class Selection:
    """Training images by their indices: those selected (n,), class by class, and held-out ones.

    `held_out` is None where there are validation images to choose a learning rate on.
    """

    indices: Tensor
    held_out: Tensor | None


@dataclass(frozen=True)
class Coreset:
    """Selected real images (n, C, H, W) with classes (n,), and held-out ones to choose a learning rate on."""

    images: Tensor
    labels: Tensor
    held_out: Labelled


@dataclass(frozen=True)
class Chosen:
    """Chosen training images as network inputs, each read when it is asked for."""

    real: Real
    indices: Tensor

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.real.test[1].device

    @property
    def shape(self) -> torch.Size:
        """(n, C, H, W)."""
        return torch.Size((len(self), *self.real.test[0].shape[1:]))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The images (B, C, H, W) of these places (B,) in the choice."""
        return self.real.train(self.indices[index])


@dataclass(frozen=True)
class Coresets:
    """The selections of all baselines and repeats. Those that take a training are kept in `results`.

    architecture: the network that images are selected by. budget: what the set costs that they are compared with. runs:
    the trainings in which forgetting is counted.
    """

    real: Real
    whole: Whole
    results: Results
    architecture: Architecture
    budget: Budget
    seed: int
    runs: int

    def identity(self, name: str) -> dict[str, Any]:
        """What a baseline's selections depend on beside seed, dataset and repeat; nothing for one that only draws."""
        reads = baselines.load(name).reads
        if not reads:
            return {}
        by = {"network": spec_of(self.architecture), "trained": self.whole.folder.name}
        return {**by, "runs": self.runs} if "forgotten" in reads else by

    def get(self, name: str, repeat: int) -> Coreset:
        """The images that a baseline selects in a repeat; `select` has been called for it."""
        selection = self._kept(name, repeat)
        if selection is None:
            selection = self._selected(name, repeat)
        real, device = self.real, self.real.test[1].device

        def labels_of(indices: Tensor) -> Tensor:
            return real.train_labels[indices].to(device)

        out = selection.held_out
        held_out = real.validation if out is None else (real.train(out), labels_of(out))
        labels, kept = labels_of(selection.indices), baselines.load(name).kept
        if kept is not None:
            chosen = cast(Inputs, Chosen(real, selection.indices))
            return Coreset(*kept(chosen, labels, self.budget), held_out)
        return Coreset(real.train(selection.indices), labels, held_out)

    def at_least(self, name: str) -> int:
        """How many images of each class there have to be for a baseline."""
        return 1 if baselines.load(name).up_to else self.per_class(name)

    def per_class(self, name: str) -> int:
        """How many images of each class a baseline selects."""
        return baselines.load(name).per_class(self.budget)

    def missing_runs(self, wanted: Sequence[tuple[str, int]]) -> list[int]:
        """The trainings that the selections of these baselines and repeats read, as far as they are not kept."""
        _, repeats = self._needed(wanted)
        return [r for r in repeats if self.whole.kept(self.architecture, r) is None]

    def train(
        self, wanted: Sequence[tuple[str, int]], runs: Sequence[int], each: Each, out_of_time: Callable[[], bool]
    ) -> None:
        """Make these trainings, which the selections of these baselines and repeats read; each is kept.

        Where the time limit ends before the last one was begun, those that were begun are finished.
        """
        reads, _ = self._needed(wanted)
        if not runs or out_of_time():
            return  # before step functions are made, which may take a minute
        self.whole.prepare(self.architecture)
        if "features" in reads:
            self.whole.networks.check_has_features(self.architecture)  # before any training
        message = "training {} {} on all {} training images for {} epochs, to select images by"
        name, images = self.architecture.name, len(self.real.train_labels)
        logger.info(message, len(runs), name, images, self.whole.protocol.epochs)

        def trained_in_time(repeat: int, stop: Callable[[], bool]) -> Trained | None:
            return None if out_of_time() else self.whole.trained(self.architecture, repeat, stop)

        for _ in each({r: partial(trained_in_time, r) for r in runs}):
            pass  # each is kept where it was made

    def _missing(self, wanted: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """The selections that take a training, and are not kept."""
        return [(name, r) for name, r in wanted if baselines.load(name).reads and self._kept(name, r) is None]

    def _needed(self, wanted: Sequence[tuple[str, int]]) -> tuple[set[str], range]:
        """What missing selections read of trainings, and of how many."""
        reads: set[str] = {what for name, _ in self._missing(wanted) for what in baselines.load(name).reads}
        return reads, range(self.runs if "forgotten" in reads else 1 if reads else 0)

    def select(self, wanted: Sequence[tuple[str, int]], out_of_time: Callable[[], bool]) -> None:
        """Make and keep the selections of these baselines and repeats, for which `train` has been called.

        None is made where the time limit has left out a training.
        """
        _, repeats = self._needed(wanted)
        if any(self.whole.kept(self.architecture, r) is None for r in repeats):
            return
        if repeats:
            self.whole.prepare(self.architecture)
        for name, repeat in self._missing(wanted):
            if out_of_time():
                return
            selection = self._selected(name, repeat)
            held_out = None if selection.held_out is None else selection.held_out.tolist()
            self.results.add(self._key(name, repeat), {"indices": selection.indices.tolist(), "held_out": held_out})

    def _key(self, name: str, repeat: int) -> Key:
        decisive = {**self.identity(name), "per_class": self.per_class(name)}
        return ("selection", name, str(repeat), json.dumps(decisive, sort_keys=True))

    def _kept(self, name: str, repeat: int) -> Selection | None:
        if not baselines.load(name).reads:
            return None
        entry = self.results.get(self._key(name, repeat))
        if entry is None:
            return None
        held_out = entry["held_out"]
        return Selection(torch.tensor(entry["indices"]), None if held_out is None else torch.tensor(held_out))

    def _selected(self, name: str, repeat: int) -> Selection:
        select = baselines.load(name).select
        assert select is not None
        labels = self.real.train_labels
        candidates = baselines.Candidates(
            labels=labels,
            per_class=self.per_class(name),
            classes=self.architecture.classes,
            features=partial(self.whole.features, self.architecture),
            forgotten=partial(self.whole.forgotten, self.architecture, self.runs),
        )
        generator = runtime.stream(self.seed, f"{name}-images", repeat)
        indices = select(candidates, generator)
        if len(self.real.validation[1]):
            return Selection(indices, None)
        order = torch.randperm(len(labels), generator=generator)
        return Selection(indices, order[~torch.isin(order, indices)][:HELD_OUT])
