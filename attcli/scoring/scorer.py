"""The scores of one set: networks trained on its variants and on random real images, each result kept once found."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor

from attcli.errors import OutOfTimeError
from attcli.networks import Architecture
from attcli.progress import Track
from attcli.scoring.networks import Networks
from attcli.scoring.parallel import trained_apart
from attcli.scoring.protocol import Protocol
from attcli.scoring.real import Real, random_images
from attcli.store.results import Results

LEARNED = ("synthetic", "ema")
KINDS = (*LEARNED, "random")

Case = tuple[str, str, int]
"""Architecture; synthetic, ema or random; repeat."""


def spec_of(arch: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a network by name is: with the set's own options if it is the set's own. `about` is the set's header."""
    own = about["network"]
    return dict(own) if own["arch"] == arch else {"arch": arch}


def result_key(
    case: Case, about: Mapping[str, Any], lr: float, learned_lr: float, random_lrs: Sequence[float]
) -> tuple[str, ...]:
    """What a result is kept under: all that it depends on beside what all results of the set share."""
    arch, kind, repeat = case
    options = spec_of(arch, about)
    if kind == "random":
        options |= {"lrs": [learned_lr, *random_lrs]}
    elif lr != learned_lr:
        options |= {"lr": lr}
    return (arch, kind, str(repeat), json.dumps(options, sort_keys=True))


@dataclass(frozen=True)
class Scored:
    """A set on the device: variants by name (n, C, H, W), classes (n,) or logits (n, K), and its learning rates.

    learned_lr was learned with the set; lr is the one that it is scored at. network is the spec of its own network.
    """

    variants: dict[str, Tensor]
    labels: Tensor
    learned_lr: float
    lr: float
    per_class: int
    about: dict[str, Any]


@dataclass(frozen=True)
class Scorer:
    """Trains and tests the networks of cases that no result is kept of."""

    scored: Scored
    real: Real
    networks: Networks
    protocol: Protocol
    results: Results
    seed: int
    repeats: int
    random_lrs: tuple[float, ...]
    cores: int
    out_of_time: Callable[[], bool] = lambda: False

    def scores(self, cases: list[Case], progress: Track) -> dict[Case, float]:
        """The accuracy in percent of each case; what is known is not repeated.

        OutOfTimeError where the time limit ends before the last case was begun; those that were begun are finished.
        """
        accuracies: dict[Case, float] = {}
        jobs = {}
        for case in cases:
            known = self.results.get(self._key(case))
            if known is None:
                jobs[case] = partial(self._score_in_time, case)
            else:
                accuracies[case] = float(known["accuracy"])
                progress.advance()
        with trained_apart(self.networks.device, self.cores) as each:
            for arch in dict.fromkeys(case[0] for case in jobs):
                if self.out_of_time():
                    break  # before step functions are made, which may take a minute
                trainings = self.repeats * (len(KINDS) + len(self.random_lrs))
                images = self.scored.variants["synthetic"]
                passes = self.protocol.epochs * trainings
                self.networks.prepare(self.architecture(arch), images, self.protocol.batch, passes)
                for case, result in each({case: job for case, job in jobs.items() if case[0] == arch}):
                    if result is None:
                        continue
                    self.results.add(self._key(case), result)
                    accuracies[case] = float(result["accuracy"])
                    progress.advance(f"{case[0]} {case[1]} {accuracies[case]:.1f} %")
        if len(accuracies) < len(cases):
            raise OutOfTimeError(f"{len(accuracies)} of {len(cases)} results are kept")
        return accuracies

    def architecture(self, arch: str) -> Architecture:
        """A network by name, with the set's own options if it is the set's own."""
        return Architecture.of(spec_of(arch, self.scored.about), self.scored.about)

    def _key(self, case: Case) -> tuple[str, ...]:
        scored = self.scored
        return result_key(case, scored.about, scored.lr, scored.learned_lr, self.random_lrs)

    def _score_in_time(self, case: Case, stop: Callable[[], bool]) -> dict[str, Any] | None:
        """A case's result, or none where the time limit was over before it was begun."""
        return None if self.out_of_time() else self._score(case, stop)

    def _score(self, case: Case, stop: Callable[[], bool]) -> dict[str, Any]:
        arch, kind, repeat = case
        if kind == "random":
            return self._random(arch, repeat, stop)
        images = self.scored.variants[kind]
        theta = self._trained(arch, images, self.scored.labels, self.scored.lr, repeat, stop)
        return {"accuracy": self.networks.accuracy(self.architecture(arch), theta, images, self.real.test)}

    def _trained(
        self, arch: str, images: Tensor, labels: Tensor, lr: float, repeat: int, stop: Callable[[], bool]
    ) -> Tensor:
        key = (self.seed, "evaluate", repeat)
        return self.networks.trained(self.architecture(arch), images, labels, lr, self.protocol, key, stop)

    def _random(self, arch: str, repeat: int, stop: Callable[[], bool]) -> dict[str, Any]:
        """As many random real images of each class, with the best of several learning rates on held-out images."""
        architecture = self.architecture(arch)
        drawn = random_images(self.real, self.scored.per_class, architecture.classes, self.seed, repeat)
        best = {"held_out": -1.0}
        for lr in (self.scored.learned_lr, *self.random_lrs):
            theta = self._trained(arch, drawn.images, drawn.labels, lr, repeat, stop)
            reached = self.networks.accuracy(architecture, theta, drawn.images, drawn.held_out)
            if reached > best["held_out"]:
                tested = self.networks.accuracy(architecture, theta, drawn.images, self.real.test)
                best = {"held_out": reached, "lr": lr, "accuracy": tested}
        return best

    def description(self, split: str) -> dict[str, Any]:
        """The protocol, as the scores' file states it."""
        values = {**asdict(self.protocol), "lr": self.scored.lr, "seed": self.seed, "tested_on": split}
        return {**values, "test_images": len(self.real.test[1]), "random_lrs": self.random_lrs}
