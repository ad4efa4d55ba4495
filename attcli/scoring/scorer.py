"""The scores of one set: networks trained on its variants and on real images, each result kept once it is there."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attcli import baselines, runtime
from attcli.networks import Architecture
from attcli.options import VARIANTS
from attcli.progress import Track
from attcli.scoring.begun import Begun, remove
from attcli.scoring.combined import COMBINED, as_met
from attcli.scoring.coresets import Coresets
from attcli.scoring.networks import Networks
from attcli.scoring.parallel import trained_apart
from attcli.scoring.protocol import Protocol
from attcli.scoring.real import Real
from attcli.scoring.whole import Whole, spec_of
from attcli.store.results import Key, Results

Case = tuple[str, str, int]
"""Architecture; synthetic, ema or a baseline; repeat."""

Result = dict[str, Any]
"""One network's test: accuracy in percent; confusion, a row for each true class (results of older versions lack it).

Where the protocol takes the largest of several tests, `last` is the accuracy of the last one.
"""


def spec_by_name(arch: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a network by name is: with the set's own options if it is the set's own. `about` is the set's header."""
    own = about["network"]
    return dict(own) if own["arch"] == arch else {"arch": arch}


def result_key(
    case: Case,
    about: Mapping[str, Any],
    lr: float,
    learned_lr: float,
    coreset_lrs: Sequence[float],
    selected_by: Mapping[str, Any] | None = None,
) -> Key:
    """What the result of a set or coreset is kept under: all it depends on beside what all results of the set share."""
    arch, kind, repeat = case
    options = spec_by_name(arch, about)
    if is_coreset(kind):
        options |= {"lrs": [*coreset_lrs]}
        if selected_by:
            options |= {"selected_by": selected_by}
    elif lr != learned_lr:
        options |= {"lr": lr}
    return (arch, kind, str(repeat), json.dumps(options, sort_keys=True))


@dataclass(frozen=True)
class Scored:
    """A set on the device: variants by name (n, C, H, W), classes (n,) or logits (n, K), and its learning rates.

    learned_lr was learned with the set; lr is the one that it is scored at. about: what its header says, such as its
    network. real (n,) is true for images that were not distilled; None where all were.
    """

    variants: dict[str, Tensor]
    labels: Tensor
    learned_lr: float
    lr: float
    about: dict[str, Any]
    real: Tensor | None = None

    def architecture(self, arch: str) -> Architecture:
        """A network by name for the set's images, with the set's own options if it is the set's own."""
        return Architecture.of(spec_by_name(arch, self.about), self.about)


@dataclass(frozen=True)
class Scorer:
    """Trains and tests the networks of cases that no result is kept of.

    results: those of this set. coresets and whole: the real images in its place; results that do not depend on the set
    are kept in coresets.results. tested_on: the split that real.test is.
    """

    scored: Scored
    real: Real
    networks: Networks
    protocol: Protocol
    results: Results
    coresets: Coresets
    whole: Whole
    seed: int
    repeats: int
    random_lrs: tuple[float, ...]
    cores: int
    tested_on: str
    out_of_time: Callable[[], bool] = lambda: False
    stopped: Callable[[], bool] = lambda: False
    """Whether another process that shares the work asked to stop, in the middle of a training if need be."""

    def known(self, cases: Sequence[Case]) -> dict[Case, Result]:
        """The results that are kept, of these cases."""
        kept = {case: self._results(case).get(self._key(case)) for case in cases}
        return {case: result for case, result in kept.items() if result is not None}

    def selecting(self, cases: Sequence[Case]) -> list[tuple[str, int]]:
        """The baselines and repeats of these cases whose images are selected."""
        return list(dict.fromkeys(case[1:] for case in cases if is_coreset(case[1])))

    def missing_runs(self, cases: Sequence[Case]) -> list[int]:
        """The trainings by which images for these cases are selected, as far as they are not kept."""
        return self.coresets.missing_runs(self.selecting(cases))

    def train_selectors(self, cases: Sequence[Case], runs: Sequence[int]) -> None:
        """Make these of the trainings by which images for the cases are selected; each is kept."""
        with trained_apart(self.networks.device, self.cores) as each:
            self.coresets.train(self.selecting(cases), runs, each, lambda: self.out_of_time() or self.stopped())

    def select(self, cases: Sequence[Case]) -> None:
        """Select the images for these cases, and keep which they are; `train_selectors` has been called."""
        self.coresets.select(self.selecting(cases), self.out_of_time)

    def compute(self, cases: Sequence[Case], progress: Track) -> None:
        """Train and test the networks of these cases, and keep each result; images are selected already.

        Where the time limit ends before the last case was begun, those that were begun are finished.
        """
        with trained_apart(self.networks.device, self.cores) as each:
            for arch in dict.fromkeys(case[0] for case in cases):
                if self.out_of_time() or self.stopped():
                    return  # before step functions are made, which may take a minute
                of_arch = [case for case in cases if case[0] == arch]
                self._prepare(arch, of_arch)
                for case, result in each({case: partial(self._score_in_time, case) for case in of_arch}):
                    self.stopped()  # LostError where rank 0 is gone, and others may work in its folders now
                    if result is not None:
                        self._results(case).add(self._key(case), result)
                        remove(self.results.folder, self._key(case))
                        progress.advance(f"{case[0]} {case[1]} {result['accuracy']:.1f} %")

    def merge(self, *, whole: bool) -> None:
        """Take over the results of the other ranks; with `whole`, those of trainings on all images too."""
        self.results.merge()
        for key in self.results.found():
            remove(self.results.folder, key)  # what a process left that was killed just then
        if whole:
            self.coresets.results.merge()

    def architecture(self, arch: str) -> Architecture:
        """A network by name, with the set's own options if it is the set's own."""
        return self.scored.architecture(arch)

    def _prepare(self, arch: str, cases: list[Case]) -> None:
        """Make the step functions that an architecture's cases use.

        For the set and coresets the execution follows from the trainings of one baseline, however many are asked for,
        so that a score does not depend on which others are.
        """
        rates = len(self.coreset_lrs)
        trainings = self.repeats * (len(VARIANTS) + rates)
        passes = self.protocol.epochs * trainings
        architecture, images = self.architecture(arch), self.scored.variants["synthetic"]
        self.networks.prepare(architecture, images, self.protocol.batch, passes)
        for kind, repeat in sorted({case[1:] for case in cases if is_coreset(case[1])}):
            of_kind = self.coresets.get(kind, repeat).images
            self.networks.prepare(
                architecture, of_kind, self.protocol.batch, self.protocol.epochs * self.repeats * rates
            )
        if any(is_entire(kind) for _, kind, _ in cases):
            self.whole.prepare(architecture)

    def _results(self, case: Case) -> Results:
        return self.coresets.results if is_entire(case[1]) else self.results

    def _key(self, case: Case) -> Key:
        """What a result is kept under: all that it depends on beside what all results of its folder share."""
        arch, kind, repeat = case
        scored = self.scored
        if is_entire(kind):
            spec = json.dumps(spec_by_name(arch, scored.about), sort_keys=True)
            return (arch, kind, str(repeat), spec, self.tested_on)
        selected_by = self.coresets.identity(kind) if is_coreset(kind) else None
        return result_key(case, scored.about, scored.lr, scored.learned_lr, self.coreset_lrs, selected_by)

    def _score_in_time(self, case: Case, stop: Callable[[], bool]) -> Result | None:
        """A case's result, or none where the time limit was over before it was begun."""
        return None if self.out_of_time() else self._score(case, lambda: stop() or self.stopped())

    def _score(self, case: Case, stop: Callable[[], bool]) -> Result:
        arch, kind, repeat = case
        architecture = self.architecture(arch)
        if is_entire(kind):
            theta = self.whole.trained(architecture, repeat, stop).theta
            return self.whole.networks.tested(architecture, theta, self.real.whole(), self.real.test)
        if is_coreset(kind):
            return self._coreset(case, stop)
        scored = self.scored
        images = scored.variants[kind]
        theta, tests = self._trained(case, images, scored.labels, scored.lr, stop, scored.real)
        return self._result(architecture, theta, images, tests)

    @property
    def coreset_lrs(self) -> tuple[float, ...]:
        """The learning rates that are tried on selected images: the protocol's, or the set's and some others."""
        return (self.protocol.rate or self.scored.learned_lr, *self.random_lrs)

    def _trained(
        self,
        case: Case,
        images: Tensor,
        labels: Tensor,
        lr: float,
        stop: Callable[[], bool],
        real: Tensor | None,
        number: int = 0,
        more: bool = False,
    ) -> tuple[Tensor, list[Result]]:
        """The parameters of a network after its training on images, and the tests that the protocol has on the way.

        `real` (n,) says which of them were not distilled, None that all were. It is training `number` for the result of
        the case, and `more` follow.
        """
        arch, _, repeat = case
        architecture, key, every = self.architecture(arch), (self.seed, "evaluate", repeat), self.protocol.tests
        draws = runtime.stream(self.seed, COMBINED, repeat)
        where = torch.zeros(len(images), dtype=torch.bool, device=images.device) if real is None else real
        seen, protocol = as_met(images, where, self.protocol, draws)
        begun = Begun(self.results.folder, self._key(case), number, is_kept=more, draws=[draws])

        def after(passes: int, theta: Tensor) -> None:
            if every and (passes % every == 0 or passes == self.protocol.epochs):
                begun.tests.append(self.networks.tested(architecture, theta, images, self.real.test))

        at = after if every else None
        theta = self.networks.trained(architecture, seen, labels, lr, protocol, key, stop, after=at, begun=begun)
        return theta, begun.tests

    def _result(self, architecture: Architecture, theta: Tensor, images: Tensor, tests: list[Result]) -> Result:
        """The test of a network that was trained on images; of several tests, the one that is largest."""
        if not tests:
            return self.networks.tested(architecture, theta, images, self.real.test)
        largest = max(tests, key=lambda test: float(test["accuracy"]))
        return {**largest, "last": tests[-1]["accuracy"]}

    def _coreset(self, case: Case, stop: Callable[[], bool]) -> Result:
        """Real images that a baseline selects, with the best of several learning rates on held-out images."""
        arch, kind, repeat = case
        architecture = self.architecture(arch)
        coreset = self.coresets.get(kind, repeat)
        best: Result = {"held_out": -1.0}
        real = torch.ones(len(coreset.images), dtype=torch.bool, device=coreset.images.device)
        for number, lr in enumerate(self.coreset_lrs):
            more = number + 1 < len(self.coreset_lrs)
            theta, tests = self._trained(case, coreset.images, coreset.labels, lr, stop, real, number, more)
            reached = self.networks.accuracy(architecture, theta, coreset.images, coreset.held_out)
            if reached > best["held_out"]:
                best = {"held_out": reached, "lr": lr, **self._result(architecture, theta, coreset.images, tests)}
        return best

    def train_on_all(self, kinds: Sequence[str]) -> bool:
        """Whether some of these kinds take a training on all training images, be it to select by."""
        return any(is_entire(kind) or self.coresets.identity(kind) for kind in kinds if kind not in VARIANTS)

    def description(self, kinds: Sequence[str]) -> dict[str, Any]:
        """The protocol by which these kinds are scored, as the scores' file states it."""
        values = {**self.protocol.stated(), "lr": self.scored.lr, "seed": self.seed, "tested_on": self.tested_on}
        values |= {"test_images": len(self.real.test[1]), "random_lrs": self.random_lrs}
        if self.train_on_all(kinds):
            by = {"selected_by": spec_of(self.coresets.architecture), "forgetting_runs": self.coresets.runs}
            values["whole"] = {"epochs": self.whole.protocol.epochs, "lr": self.whole.lr, **by}
        return values


def is_coreset(kind: str) -> bool:
    """Whether a kind is a baseline that selects some real images."""
    return kind not in VARIANTS and baselines.load(kind).select is not None


def is_entire(kind: str) -> bool:
    """Whether a kind is a baseline that takes all training images."""
    return kind not in VARIANTS and baselines.load(kind).select is None
