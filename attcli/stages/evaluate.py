"""evaluate: fresh networks are trained on the synthetic set, and on random real images, and tested on real ones."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from attcli import execution, runtime
from attcli.data.inputs import network_inputs, of_each_class
from attcli.errors import UserError
from attcli.matching.steps import Steps
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.progress import Track, track
from attcli.scoring.parallel import in_this_thread, trained_apart
from attcli.scoring.protocol import Protocol, accuracy, fresh, train
from attcli.settings import Settings
from attcli.stages import identity, inputs
from attcli.stages.run import Run, differences
from attcli.store import artefact, dataset, synthetic
from attcli.store.files import write_text
from attcli.store.results import Results

HELD_OUT = 2000
"""Where there is no validation split, a random baseline's learning rate is chosen on so many other training images."""

LEARNED = ("synthetic", "ema")
KINDS = (*LEARNED, "random")

Case = tuple[str, str, int]
"""Architecture; synthetic, ema or random; repeat."""


@dataclass(frozen=True)
class Real:
    """The real images that a set is scored with, as network inputs on the device."""

    train: Callable[[Tensor], Tensor]
    """Training images by their indices."""
    train_labels: Tensor
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def run(run: Run, path: Path | None = None) -> dict[str, Any]:
    """Score the set in `path`, or the one among the results.

    The scores of the results' own set are written beside it. What is there is scored as it is; where other settings
    are asked for, or more iterations, a warning says so.
    """
    found = synthetic.read(path or run.synthetic)
    if path is None:
        _warn_of_another(run, found)
    scorer = _Scorer(run, found)
    settings, kinds = run.settings.evaluate, scorer.kinds()
    cases = [(arch, kind, r) for arch in settings.archs for kind in kinds for r in range(settings.repeats)]
    with scorer.working(), track("networks", len(cases)) as progress:
        accuracies = scorer.scores(cases, progress)
    scores = {arch: {kind: _summary_of(accuracies, arch, kind) for kind in kinds} for arch in settings.archs}
    report = {"scores": scores, "protocol": scorer.description(), "set": _describe(found)}
    if path is None:
        write_text(run.scores, json.dumps(report, indent=2) + "\n")
    return report


def run_snapshots(run: Run, *, literature: bool = False) -> dict[str, Any]:
    """Scores of the snapshots, by three rules that are never mixed; each says which images decided.

    `last`: the last snapshot, tested. `selected`: for each architecture and kind the snapshot that is best on the
    validation images, tested once; left out where there are none. With `literature` also `literature_maximum`: the
    best of the tests of all snapshots, which chooses on the test images, as the literature reports it. UserError where
    nothing can be scored.
    """
    files = synthetic.snapshots(run.snapshots)
    if not files:
        raise UserError(f"{run.snapshots} holds no snapshots; run `{synthetic.MAKER}`")
    report: dict[str, Any] = {"last": row(run, files[-1], "test")}
    if len(dataset.read(run.dataset).labels["validation"]):
        rows = [row(run, file, "validation") for file in files]
        report |= {"snapshots": rows, "selected": _best(rows, lambda i: row(run, files[i], "test"))}
    else:
        logger.warning(
            "{} has no validation images, so that none is selected; to have some, prepare and distil with "
            "--set prepare.validation=N",
            run.dataset,
        )
    if literature:
        tested = [row(run, file, "test") for file in files]
        report |= {"tests": tested, "literature_maximum": _best(tested, lambda i: tested[i])}
    write_text(run.scores.with_name("snapshot-scores.json"), json.dumps(report, indent=2) + "\n")
    return report


def row(run: Run, file: Path, split: str, kinds: Sequence[str] = LEARNED) -> dict[str, Any]:
    """A snapshot's scores on a split, by architecture and kind."""
    found = synthetic.read(file, synthetic.SNAPSHOT)
    if found.about["dataset_sha256"] != artefact.header(run.dataset, dataset.KIND, dataset.MAKER).sha256:
        raise UserError(
            f"{file} was distilled from other images than those in {run.dataset} (another split or normaliser); "
            f"prepare as then, or run `{synthetic.MAKER} --force`"
        )
    scorer, settings = _Scorer(run, found, split), run.settings.evaluate
    cases = [(arch, kind, r) for arch in settings.archs for kind in kinds for r in range(settings.repeats)]
    with scorer.working(), track(f"{file.stem}, {split}", len(cases)) as progress:
        accuracies = scorer.scores(cases, progress)
    scores = {arch: {kind: _summary_of(accuracies, arch, kind) for kind in kinds} for arch in settings.archs}
    return {"iteration": synthetic.iteration_of(file), "split": split, **scores}


def _warn_of_another(run: Run, found: synthetic.SyntheticSet) -> None:
    """Say what the set among the results is, where it is not what the settings ask for."""
    there = {"prepare.dataset": found.about["dataset"], **found.settings}
    asked = {"prepare.dataset": run.settings.prepare.dataset, **identity.distillation(run.settings)}
    if differing := differences(there, asked):
        logger.warning("{} was distilled with other settings ({}); it is scored", run.synthetic, "; ".join(differing))
    elif found.about["iteration"] < run.settings.distill.iterations:
        wanted = run.settings.distill.iterations
        message = "{} is from iteration {} of {}; it is scored as it is, `{}` goes on with it"
        logger.warning(message, run.synthetic, found.about["iteration"], wanted, synthetic.MAKER)


def _best(rows: list[dict[str, Any]], score: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """For each architecture and kind the iteration whose row is best, and what `score` finds for it."""
    archs = [name for name in rows[0] if name not in ("iteration", "split")]
    found: dict[str, Any] = {}
    for arch in archs:
        for kind in LEARNED:
            best = max(range(len(rows)), key=lambda i: rows[i][arch][kind]["mean"])
            reached = score(best)[arch][kind]
            found.setdefault(arch, {})[kind] = {"iteration": rows[best]["iteration"], **reached}
    return found


def summary(values: list[float]) -> dict[str, float | int | None]:
    """Mean and sample standard deviation (none for a single value) of accuracies in percent."""
    return {
        "mean": round(mean(values), 4),
        "sd": round(stdev(values), 4) if len(values) > 1 else None,
        "n": len(values),
    }


def _summary_of(found: dict[Case, float], arch: str, kind: str) -> dict[str, float | int | None]:
    return summary([found[case] for case in sorted(found) if case[:2] == (arch, kind)])


def _describe(found: synthetic.SyntheticSet) -> dict[str, Any]:
    names = ("dataset", "method", "ipc", "iteration", "network", "seed")
    return {**{name: found.about[name] for name in names}, "lr": found.lr, "sha256": found.sha256}


def check_dataset(run: Run, path: Path) -> None:
    """UserError unless the settings ask for the dataset that the set in `path` was distilled from."""
    name, asked = synthetic.read(path).about["dataset"], run.settings.prepare.dataset
    if asked != name:
        raise UserError(f"the set was distilled from {name}, not {asked}; add --dataset {name}")


def _dataset_for(run: Run, found: synthetic.SyntheticSet) -> dataset.Dataset:
    """The dataset that the set was distilled from."""
    about = found.about
    data = dataset.read(run.dataset)
    for what in ("dataset", "channels", "resolution", "classes"):
        if data.about[what] != about[what]:
            raise UserError(
                f"{run.dataset} has {what} {data.about[what]}, the set was distilled from {about[what]}; "
                f"run `{dataset.MAKER} --dataset {about['dataset']} --force`"
            )
    for what in ("kind", "eps") if found.normaliser is None else ():
        there, wanted = data.about["normaliser"][what], about["normaliser"][what]
        if there != wanted:
            raise UserError(
                f"{run.dataset} is normalised with {what} {there}, the set with {wanted}; "
                f"run `{dataset.MAKER} --force` with that prepare.normalise"
            )
    return data


class _Scorer:
    """Trains and tests networks, remembering each result as soon as it is there."""

    def __init__(self, run: Run, found: synthetic.SyntheticSet, split: str = "test") -> None:
        settings = run.settings
        self._run, self._found, self._split = run, found, split
        data = _dataset_for(run, found)
        self._device = runtime.device(settings.runtime.device)
        if not len(data.labels[split]):
            raise UserError(f"{run.dataset} has no {split} images; prepare and distil with --set prepare.validation=N")
        self._protocol = _protocol(settings, found)
        self._lr = settings.evaluate.lr or found.lr
        self._seed = settings.seed_of("evaluate")
        self._dtype = execution.dtype(settings.evaluate.precision)
        self._real = self._load(data)
        self._fingerprint = artefact.fingerprint(
            "evaluate",
            identity.ALGORITHM["evaluate"],
            {
                **asdict(self._protocol),
                "precision": settings.evaluate.precision,
                "seed": self._seed,
                "lrs": settings.evaluate.random_lrs,
                "split": split,
            },
            {"set": found.sha256, "dataset": data.sha256},
        )
        self._results = Results(run.work("evaluate", self._fingerprint) / "results.jsonl")
        self._labels = found.labels.to(self._device)
        execution.set_precision(settings.evaluate.precision)
        self._students: dict[str, Student] = {}
        self._steps: dict[str, Steps] = {}
        self._variants = {kind: images.to(self._device, self._dtype) for kind, images in found.variants.items()}

    def kinds(self) -> tuple[str, ...]:
        """What is scored: random real images only where every class has as many as the set, and some are left."""
        ipc, labels = self._found.about["ipc"], self._real.train_labels
        smallest = int(torch.bincount(labels, minlength=len(self._found.about["classes"])).min())
        if ipc <= smallest and ipc * len(self._found.about["classes"]) < len(labels):
            return KINDS
        logger.warning("a class has {} training images: too few for a baseline of {} random ones", smallest, ipc)
        return LEARNED

    def working(self) -> Any:
        """Hold the work folder while scoring."""
        return self._run.working("evaluate", self._fingerprint)

    def description(self) -> dict[str, Any]:
        """The protocol, as the scores file states it."""
        values = {**asdict(self._protocol), "lr": self._lr, "seed": self._seed, "tested_on": self._split}
        return {**values, "test_images": len(self._real.test[1]), "random_lrs": self._run.settings.evaluate.random_lrs}

    def _load(self, data: dataset.Dataset) -> Real:
        normaliser = self._found.normaliser or data.normaliser
        scale = data.about["value_scale"]

        def inputs(images: Tensor) -> Tensor:
            return network_inputs(images, scale, normaliser).to(self._device, self._dtype)

        def split(name: str) -> tuple[Tensor, Tensor]:
            return inputs(data.images[name]), data.labels[name].to(self._device)

        return Real(
            train=lambda chosen: inputs(data.images["train"][chosen]),
            train_labels=data.labels["train"],
            validation=split("validation"),
            test=split(self._split),
        )

    def scores(self, cases: list[Case], progress: Track) -> dict[Case, float]:
        """The accuracy in percent of each case (architecture, kind, repeat); those that are known are not repeated."""
        found, jobs = {}, {}
        for case in cases:
            known = self._results.get(self._result_key(case))
            if known is None:
                jobs[case] = partial(self._score, case)
            else:
                found[case] = float(known["accuracy"])
                progress.advance()
        with trained_apart(self._device, self._cores()) as each:
            for arch in dict.fromkeys(case[0] for case in jobs):
                self._prepare(arch)
                mine = {case: job for case, job in jobs.items() if case[0] == arch}
                for case, result in each(mine):
                    self._results.add(self._result_key(case), result)
                    found[case] = float(result["accuracy"])
                    progress.advance(f"{case[0]} {case[1]} {found[case]:.1f} %")
        return found

    def _cores(self) -> int:
        """How many networks are trained at once on a CPU."""
        asked = self._run.settings.runtime.threads
        return asked if isinstance(asked, int) else runtime.cores()

    def _score(self, case: Case, stop: Callable[[], bool]) -> dict[str, Any]:
        arch, kind, repeat = case
        if kind == "random":
            return self._random(arch, repeat, stop)
        theta = self._trained(arch, self._variants[kind], self._labels, self._lr, repeat, stop)
        return {"accuracy": accuracy(in_this_thread(self._students[arch], self._device), theta, *self._real.test)}

    def _result_key(self, case: Case) -> tuple[str, ...]:
        arch, kind, repeat = case
        given = {} if kind == "random" or self._lr == self._found.lr else {"lr": self._lr}
        return (arch, kind, str(repeat), json.dumps({**self._options(arch), **given}, sort_keys=True))

    def _prepare(self, arch: str) -> None:
        """The architecture's step functions, compiled once for all its networks where that pays."""
        evaluate, chosen = self._run.settings.evaluate, self._run.settings.runtime
        architecture, images = self._architecture(arch), self._variants["synthetic"]
        student = execution.student(architecture.build, self._device, evaluate.precision)
        batch = min(self._protocol.batch, len(images))
        trainings = evaluate.repeats * (len(KINDS) + len(evaluate.random_lrs))
        work = execution.Work(
            image=tuple(images.shape[1:]),
            classes=architecture.classes,
            batch=batch,
            images=len(images) * self._protocol.epochs * trainings,
            filled_up=len(images) % batch > 0,
            dtype=self._dtype,
        )
        self._students[arch] = student
        self._steps[arch] = execution.steps(
            student, architecture.build, work, self._device, chosen.execution, chosen.micro_batch
        )

    def _options(self, arch: str) -> dict[str, object]:
        own = self._found.about["network"]
        return dict(own) if own["arch"] == arch else {"arch": arch}

    def _architecture(self, arch: str) -> Architecture:
        return inputs.architecture_of(self._options(arch), self._found.about)

    def _key(self, repeat: int) -> tuple[int, str, int]:
        return (self._seed, "evaluate", repeat)

    def _trained(
        self, arch: str, images: Tensor, labels: Tensor, lr: float, repeat: int, stop: Callable[[], bool]
    ) -> Tensor:
        architecture, key = self._architecture(arch), self._key(repeat)
        theta = fresh(architecture, key).to(self._device, self._dtype)
        steps = in_this_thread(self._steps[arch], self._device)
        return train(steps, theta, images, labels, architecture.classes, lr, self._protocol, key, stop)

    def _random(self, arch: str, repeat: int, stop: Callable[[], bool]) -> dict[str, Any]:
        """As many random real images of each class, with the best of several learning rates on held-out images."""
        classes = len(self._found.about["classes"])
        generator = runtime.stream(self._seed, "random-images", repeat)
        chosen = of_each_class(self._real.train_labels, [self._found.about["ipc"]] * classes, generator)
        images = self._real.train(chosen)
        labels = self._real.train_labels[chosen].to(self._device)
        held_out = self._held_out(chosen, generator)
        student, best = in_this_thread(self._students[arch], self._device), {"held_out": -1.0}
        for lr in (self._found.lr, *self._run.settings.evaluate.random_lrs):
            theta = self._trained(arch, images, labels, lr, repeat, stop)
            reached = accuracy(student, theta, *held_out)
            if reached > best["held_out"]:
                best = {"held_out": reached, "lr": lr, "accuracy": accuracy(student, theta, *self._real.test)}
        return best

    def _held_out(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if len(self._real.validation[1]):
            return self._real.validation
        order = torch.randperm(len(self._real.train_labels), generator=generator)
        others = order[~torch.isin(order, chosen)][:HELD_OUT]
        return self._real.train(others), self._real.train_labels[others].to(self._device)


def _protocol(settings: Settings, found: synthetic.SyntheticSet) -> Protocol:
    chosen = settings.evaluate
    strategy = found.about["protocol"]["augment"] if chosen.augment is None else chosen.augment
    return Protocol(
        name=chosen.protocol,
        epochs=chosen.epochs,
        batch=chosen.batch,
        momentum=chosen.momentum,
        weight_decay=chosen.weight_decay,
        augment=strategy,
    )
