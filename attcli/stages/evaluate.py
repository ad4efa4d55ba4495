"""evaluate: fresh networks are trained on the synthetic set, and on real images instead, and tested on real ones."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from loguru import logger

from attcli import coding, runtime
from attcli.baselines import Budget
from attcli.errors import OutOfTimeError, UserError
from attcli.progress import track
from attcli.scoring import real
from attcli.scoring.coresets import Coresets
from attcli.scoring.networks import Networks
from attcli.scoring.protocol import Protocol
from attcli.scoring.scorer import LEARNED, Case, Result, Scored, Scorer, is_entire
from attcli.scoring.summary import as_json, summary, with_classes
from attcli.scoring.whole import Whole
from attcli.stages import identity, jobs
from attcli.stages.of_a_set import baselines_for, check_asked, dataset_for, protocol_for, rates_for
from attcli.stages.run import Run
from attcli.store import artefact, dataset, states, synthetic
from attcli.store.files import set_aside, write_text
from attcli.store.results import Results

Source = tuple[Path, str | None]
"""The file that a set is in, and of which kind it has to be."""

__all__ = ["LEARNED", "row", "run", "run_snapshots", "summary"]


def run(run: Run, path: Path | None = None) -> dict[str, Any]:
    """Score the set in `path` (or a snapshot), or the one among the results.

    The scores of the results' own set are written beside it. UserError where the settings that were asked for are not
    the set's.
    """
    distilled = synthetic.read(path or run.synthetic, kind=None)
    check_asked(run, distilled.about, distilled.settings, path)
    evaluation = _Evaluation(run, distilled)
    scorer = evaluation.scorer(distilled, "test")
    kinds = _kinds(scorer, baselines_for(run.settings.evaluate, distilled.about.get("coding") or coding.PLAIN))
    report: dict[str, Any] = {
        "scores": evaluation.scores(scorer, (path or run.synthetic, None), kinds, "networks", with_classes),
        "protocol": scorer.description(kinds),
        "set": _describe(distilled),
        "work": scorer.results.folder.name,
    }
    means = {f"{arch}/{kind}": entry["mean"] for arch, of in report["scores"].items() for kind, entry in of.items()}
    with run.tracking("evaluate", report["work"]) as log:
        log(0, means)
    if path is None:
        about = {name: report[name] for name in ("protocol", "set", "work")}
        _write(run.scores, {"scores": report["scores"]})
        _write(run.scores.with_name("scores-about.json"), about)
        logger.info("the scores are in {}, how they were made in scores-about.json beside it", run.scores)
    else:
        logger.info("no file is written for a set that is named; --json prints the scores so that they can be kept")
    return report


def run_snapshots(run: Run, *, literature: bool = False) -> dict[str, Any]:
    """Scores of the snapshots, by three rules that are never mixed; each says which images decided.

    `last`: the last snapshot, tested. `selected`: for each architecture and kind the snapshot that is best on the
    validation images, tested once; left out where there are none. With `literature` also `literature_maximum`: the
    best of the tests of all snapshots, which chooses on the test images, as the literature reports it. `protocol` and
    `set` say how the snapshots were scored, and what the last one is. UserError where nothing can be scored.
    """
    files = states.snapshots(run.snapshots)
    if not files:
        raise UserError(f"{run.snapshots} holds no snapshots; run `{synthetic.MAKER}`")
    last = _snapshot(run, files[-1])
    evaluation = _Evaluation(run, last)
    report: dict[str, Any] = {
        "protocol": evaluation.scorer(last, "test").description(LEARNED),
        "set": _describe(last),
        "last": evaluation.row(files[-1], "test"),
    }
    if len(evaluation.data.labels["validation"]):
        rows = [evaluation.row(file, "validation") for file in files]
        report |= {"snapshots": rows, "selected": _best(rows, lambda i: evaluation.row(files[i], "test"))}
    else:
        logger.warning(
            "{} has no validation images, so that none is selected; to have some, prepare and distil with "
            "--set prepare.validation=N",
            run.dataset,
        )
    if literature:
        tested = [evaluation.row(file, "test") for file in files]
        report |= {"tests": tested, "literature_maximum": _best(tested, lambda i: tested[i])}
    path = run.scores.with_name("snapshot-scores.json")
    _write(path, report)
    logger.info("the scores are in {}", path)
    return report


def row(run: Run, file: Path, split: str, kinds: Sequence[str] = LEARNED) -> dict[str, Any]:
    """A snapshot's scores on a split: its iteration, the split, and the scores by architecture and kind."""
    return _Evaluation(run, _snapshot(run, file)).row(file, split, kinds)


def _snapshot(run: Run, file: Path) -> synthetic.SyntheticSet:
    """The set in a snapshot. UserError unless it was distilled from the images among the results."""
    distilled = synthetic.read(file, states.KIND)
    if distilled.about["dataset_sha256"] != artefact.header(run.dataset, dataset.KIND, dataset.MAKER).sha256:
        raise UserError(
            f"{file} was distilled from other images than those in {run.dataset} (another split or normaliser); "
            f"prepare the images as then, or run `{synthetic.MAKER} --force` to replace the set and its snapshots"
        )
    return distilled


def share(run: Run, job: jobs.Job, file: str, kind: str | None, split: str, cases: list[Any], runs: list[int]) -> None:
    """A rank's part in scoring a set: its share of the runs by which images are selected, and else of the cases."""
    distilled = synthetic.read(Path(file), kind=kind)
    if "evaluation" not in job.kept:
        job.kept["evaluation"] = _Evaluation(run, distilled)
    scorer = job.kept["evaluation"].scorer(distilled, split)
    wanted = [(arch, name, repeat) for arch, name, repeat in cases]
    if runs:
        scorer.train_selectors(wanted, run.ranks.share(runs))
        return
    own = run.ranks.share(wanted)
    with track("networks", len(own)) as progress:
        scorer.compute(own, progress)


class _Evaluation:
    """One invocation: the dataset is read once, and each architecture's step functions are made once, for all sets."""

    def __init__(self, run: Run, first: synthetic.SyntheticSet) -> None:
        settings = run.settings
        self._run = run
        self.data = dataset_for(run, first)
        device = runtime.device(settings.runtime.device)
        self._networks = Networks(device, settings.evaluate.precision, settings.runtime)
        self._whole_networks = Networks(device, settings.evaluate.precision, settings.runtime)
        self._real: dict[tuple[str, str], real.Real] = {}

    def _images(self, distilled: synthetic.SyntheticSet, split: str) -> real.Real:
        normaliser = distilled.normaliser or self.data.normaliser
        key = (distilled.about["normaliser"]["sha256"], split)
        if key not in self._real:
            if not len(self.data.labels[split]):
                raise UserError(
                    f"{self._run.dataset} has no {split} images; prepare and distil with --set prepare.validation=N"
                )
            self._real[key] = real.load(self.data, normaliser, split, self._networks.device, self._networks.dtype)
        return self._real[key]

    def scorer(self, distilled: synthetic.SyntheticSet, split: str) -> Scorer:
        """What scores a set on a split."""
        run, settings, networks = self._run, self._run.settings.evaluate, self._networks
        images = self._images(distilled, split)
        protocol = protocol_for(run, distilled)
        lr, random_lrs = rates_for(settings, protocol, distilled.lr)
        scored = Scored(
            variants={name: x.to(networks.device, networks.dtype) for name, x in distilled.variants.items()},
            labels=distilled.labels.to(networks.device),
            learned_lr=distilled.lr,
            lr=lr,
            about=distilled.about,
            real=None if distilled.frozen is None else distilled.frozen.bool().to(networks.device),
        )
        whole = self._whole(distilled, images, protocol)
        coresets = Coresets(
            real=images,
            whole=whole,
            results=Results(whole.folder / "results.jsonl", run.ranks.rank),
            architecture=scored.architecture(settings.whole_arch or distilled.about["network"]["arch"]),
            budget=self._budget(distilled),
            seed=run.settings.seed_of("evaluate"),
            runs=settings.forgetting_runs,
        )
        threads = run.settings.runtime.threads
        return Scorer(
            scored=scored,
            real=images,
            networks=networks,
            protocol=protocol,
            results=results_of(run, distilled, split, images.sha256),
            coresets=coresets,
            whole=whole,
            tested_on=split,
            seed=run.settings.seed_of("evaluate"),
            repeats=settings.repeats,
            random_lrs=random_lrs,
            cores=threads if isinstance(threads, int) else runtime.cores(),
            out_of_time=run.out_of_time,
            stopped=run.ranks.stop_asked,
        )

    def _budget(self, distilled: synthetic.SyntheticSet) -> Budget:
        """What the set costs, for real images that are compared with it."""
        size, normaliser = distilled.size, distilled.normaliser or self.data.normaliser
        decoder = states.coding_of(self._run.synthetic, distilled.about, normaliser)
        return Budget(distilled.about["ipc"], size["images_per_class"], size["bytes_per_class"], decoder)

    def _whole(self, distilled: synthetic.SyntheticSet, images: real.Real, of_the_set: Protocol) -> Whole:
        """The trainings on all training images: by the set's protocol, but for their epochs and learning rate."""
        settings, seed = self._run.settings.evaluate, self._run.settings.seed_of("evaluate")
        protocol = replace(of_the_set, epochs=settings.whole_epochs, tests=None, rates=(), start=None)
        lr = of_the_set.rate or settings.whole_lr
        fingerprint = artefact.fingerprint(
            "baselines",
            identity.ALGORITHM["evaluate"],
            {**protocol.stated(), "lr": lr, "precision": settings.precision, "seed": seed},
            {"dataset": images.sha256, "normaliser": distilled.about["normaliser"]["sha256"]},
        )
        folder = self._run.work("baselines", fingerprint)
        return Whole(images, self._whole_networks, protocol, lr, seed, folder)

    def scores(
        self,
        scorer: Scorer,
        source: Source,
        kinds: Sequence[str],
        label: str,
        summarised: Callable[[list[Result]], dict[str, Any]],
    ) -> dict[str, Any]:
        """A set's scores by architecture and kind, each as `summarised` says it of the repeats' results."""
        settings = self._run.settings.evaluate
        for arch in settings.archs:
            scorer.architecture(arch)  # refuses a network that does not take such images before any work
        repeats = range(settings.repeats)
        cases = [(arch, kind, r) for arch in settings.archs for kind in kinds for r in repeats]
        with ExitStack() as held:
            held.enter_context(self._run.working_at(scorer.results.folder, "evaluate"))
            if scorer.train_on_all(kinds):
                held.enter_context(self._run.working_at(scorer.whole.folder, "evaluate"))
            results = self._results(scorer, source, cases, label)
        if summarised is with_classes and any("confusion" not in result for result in results.values()):
            logger.warning(
                "some results were kept by an older version, which counted no confusion: it is shown as null; "
                "`attcli evaluate --fresh` computes all anew"
            )
        return {
            arch: {kind: summarised([results[arch, kind, r] for r in repeats]) for kind in kinds}
            for arch in settings.archs
        }

    def _results(self, scorer: Scorer, source: Source, cases: list[Case], label: str) -> dict[Case, Result]:
        """The result of each case; what is known is not computed again, and the ranks share the others.

        OutOfTimeError where the time limit ends before the last case was begun.
        """
        on_all = scorer.train_on_all(tuple(dict.fromkeys(kind for _, kind, _ in cases)))  # its folder is held then
        scorer.merge(whole=on_all)
        known, ranks = scorer.known(cases), self._run.ranks
        missing = [case for case in cases if case not in known]
        if missing:
            job = {"file": str(source[0]), "kind": source[1], "split": scorer.tested_on, "cases": missing}
            if runs := scorer.missing_runs(missing):
                with jobs.shared(self._run, "evaluate", **job, runs=runs):
                    scorer.train_selectors(missing, ranks.share(runs))
            scorer.select(missing)
            own = ranks.share(missing)
            with (
                jobs.shared(self._run, "evaluate", **job, runs=[]),
                track(label, len(known) + len(own), len(known)) as progress,
            ):
                scorer.compute(own, progress)
            scorer.merge(whole=on_all)
            known = scorer.known(cases)
        if len(known) < len(cases) and not self._run.out_of_time():
            raise UserError(
                f"{len(cases) - len(known)} of {len(cases)} results are not where another process has kept them; all "
                f"machines have to share the folder runtime.work_dir"
            )
        if len(known) < len(cases):
            raise OutOfTimeError(f"{len(known)} of {len(cases)} results are kept")
        return known

    def row(self, file: Path, split: str, kinds: Sequence[str] = LEARNED) -> dict[str, Any]:
        """A snapshot's scores on a split."""
        distilled = _snapshot(self._run, file)
        scores = self.scores(self.scorer(distilled, split), (file, states.KIND), kinds, f"{file.stem}, {split}", _plain)
        return {"iteration": states.iteration_of(file), "split": split, "scores": scores}


def results_of(run: Run, distilled: synthetic.SyntheticSet, split: str, dataset_sha256: str) -> Results:
    """Where the results of a set on a split of a dataset are kept."""
    seed, precision = run.settings.seed_of("evaluate"), run.settings.evaluate.precision
    fingerprint = artefact.fingerprint(
        "evaluate",
        identity.ALGORITHM["evaluate"],
        {**protocol_for(run, distilled).stated(), "precision": precision, "seed": seed, "split": split},
        {"set": distilled.sha256, "dataset": dataset_sha256},
    )
    return Results(run.work("evaluate", fingerprint) / "results.jsonl", run.ranks.rank)


def _kinds(scorer: Scorer, asked: Sequence[str]) -> tuple[str, ...]:
    """What is scored: coresets only where every class has enough images for them, and some are left."""
    classes = len(scorer.scored.about["classes"])
    smallest = int(scorer.real.train_labels.bincount(minlength=classes).min())
    kinds: list[str] = [name for name in LEARNED if name in scorer.scored.variants]
    for name in asked:
        per_class = 0 if is_entire(name) else scorer.coresets.at_least(name)
        if real.has_enough(scorer.real, per_class, classes):
            kinds.append(name)
            continue
        logger.warning("a class has {} training images: too few for the baseline {} of {}", smallest, name, per_class)
    return tuple(kinds)


def _best(rows: list[dict[str, Any]], score: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """For each architecture and kind the iteration whose row is best, and what `score` finds for it."""
    best: dict[str, Any] = {}
    for arch in rows[0]["scores"]:
        for kind in LEARNED:
            place = max(range(len(rows)), key=lambda i: rows[i]["scores"][arch][kind]["mean"])
            reached = score(place)["scores"][arch][kind]
            best.setdefault(arch, {})[kind] = {"iteration": rows[place]["iteration"], **reached}
    return best


def _plain(results: list[Result]) -> dict[str, Any]:
    """The summary alone: with every snapshot's confusion its file would be too long to read."""
    return summary([result["accuracy"] for result in results])


def _describe(distilled: synthetic.SyntheticSet) -> dict[str, Any]:
    names = ("dataset", "classes", "method", "ipc", "iteration", "network", "seed")
    named = {name: distilled.about[name] for name in names}
    return {**named, **distilled.size, "lr": distilled.lr, "sha256": distilled.sha256}


def _write(path: Path, report: dict[str, Any]) -> None:
    """Write a report; one that can't be read is set aside first, never overwritten."""
    if path.exists():
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, UnicodeDecodeError) as error:
            set_aside(path, error)
    write_text(path, as_json(report) + "\n")
