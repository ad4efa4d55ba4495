"""Sets and snapshots scored by the settings of one invocation, whose work the ranks share."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from loguru import logger

from attcli import runtime
from attcli.baselines import Budget
from attcli.errors import OutOfTimeError, UserError
from attcli.options import VARIANTS
from attcli.progress import track
from attcli.scoring import real
from attcli.scoring.coresets import Coresets
from attcli.scoring.networks import Networks
from attcli.scoring.protocol import Protocol
from attcli.scoring.scorer import Case, Result, Scored, Scorer
from attcli.scoring.summary import summary, with_classes
from attcli.scoring.whole import Whole
from attcli.stages import identity, jobs
from attcli.stages.of_a_set import dataset_for, protocol_for, rates_for
from attcli.stages.run import Run
from attcli.store import artefact, dataset, states, synthetic
from attcli.store.results import Results

Source = tuple[Path, str | None, str]
"""The file that a set is in, of which kind it has to be, and the set's SHA-256."""


class Evaluation:
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
            results=results_of(run, distilled, split, self.data),
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
        asked = self._run.asked("evaluate.whole_lr", files=True)
        lr = settings.whole_lr if asked or of_the_set.rate is None else of_the_set.rate
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
            job = {
                "file": str(source[0]),
                "kind": source[1],
                "sha256": source[2],
                "split": scorer.tested_on,
                "cases": missing,
            }
            if runs := scorer.missing_runs(missing):
                with jobs.shared(self._run, "evaluate", **job, runs=runs):
                    scorer.train_selectors(missing, ranks.share(runs))
                if not self._run.out_of_time() and not jobs.seen(lambda: not scorer.missing_runs(missing)):
                    raise unseen(TRAININGS)
            scorer.select(missing)
            own = ranks.share(missing)
            with (
                jobs.shared(self._run, "evaluate", **job, runs=[]),
                track(label, len(known) + len(own), len(known)) as progress,
            ):
                scorer.compute(own, progress)

            def are_known() -> bool:
                scorer.merge(whole=on_all)
                return len(scorer.known(cases)) == len(cases)

            if not are_known() and not self._run.out_of_time():
                jobs.seen(are_known)
            known = scorer.known(cases)
        if len(known) < len(cases) and not self._run.out_of_time():
            raise unseen(f"{len(cases) - len(known)} of {len(cases)} results")
        if len(known) < len(cases):
            raise OutOfTimeError(f"{len(known)} of {len(cases)} results are kept")
        return known

    def row(self, file: Path, split: str, kinds: Sequence[str] = VARIANTS) -> dict[str, Any]:
        """A snapshot's scores on a split."""
        distilled = snapshot(self._run, file)
        source = (file, states.KIND, distilled.sha256)
        scores = self.scores(self.scorer(distilled, split), source, kinds, f"{file.stem}, {split}", _plain)
        return {"iteration": states.iteration_of(file), "split": split, "scores": scores}


TRAININGS = "the trainings on real images"


def unseen(what: str) -> UserError:
    """The error where a disk does not show what another process has kept on it."""
    return UserError(
        f"{what} are not where another process has kept them; all machines have to share the folder runtime.work_dir"
    )


def results_of(
    run: Run, distilled: synthetic.SyntheticSet, split: str, data: dataset.Dataset | artefact.Header
) -> Results:
    """Where the results of a set on a split of a dataset are kept; the dataset's header will do."""
    own, of_data = (about["normaliser"]["sha256"] for about in (distilled.about, data.about))
    seed, precision = run.settings.seed_of("evaluate"), run.settings.evaluate.precision
    fingerprint = artefact.fingerprint(
        "evaluate",
        identity.ALGORITHM["evaluate"],
        {**protocol_for(run, distilled).stated(), "precision": precision, "seed": seed, "split": split},
        {
            "set": distilled.sha256,
            "dataset": data.sha256,
            **({} if own == of_data else {"normaliser": own}),  # the set's own, which real images then have
        },
    )
    return Results(run.work("evaluate", fingerprint) / "results.jsonl", run.ranks.rank)


def snapshot(run: Run, file: Path) -> synthetic.SyntheticSet:
    """The set in a snapshot. UserError unless it was distilled from the images among the results."""
    distilled = synthetic.read(file, states.KIND)
    if distilled.about["dataset_sha256"] != artefact.header(run.dataset, dataset.KIND, dataset.MAKER).sha256:
        raise UserError(
            f"{file} was distilled from other images than those in {run.dataset} (another split or normaliser); "
            f"prepare the images as then, or run `{synthetic.MAKER} --force` to replace the set and its snapshots"
        )
    return distilled


def _plain(results: list[Result]) -> dict[str, Any]:
    """The summary alone: with every snapshot's confusion its file would be too long to read."""
    return summary([result["accuracy"] for result in results])
