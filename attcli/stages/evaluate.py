"""evaluate: fresh networks are trained on the synthetic set, and on real images instead, and tested on real ones."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loguru import logger

from attcli import coding
from attcli.errors import UserError
from attcli.options import VARIANTS
from attcli.progress import track
from attcli.scoring import real
from attcli.scoring.scorer import Scorer, is_entire
from attcli.scoring.summary import as_json, summary, with_classes
from attcli.stages import evaluation, jobs
from attcli.stages.evaluation import Evaluation, snapshot
from attcli.stages.of_a_set import baselines_for, check_asked, refitted, tell_unfinished
from attcli.stages.run import Run
from attcli.store import states, synthetic
from attcli.store.files import set_aside, write_text

__all__ = ["row", "run", "run_snapshots", "summary"]


def run(run: Run, path: Path | None = None) -> dict[str, Any]:
    """Score the set in `path` (or a snapshot), or the one among the results.

    The scores of the results' own set are written beside it. UserError where the settings that were asked for are not
    the set's.
    """
    file = path or run.synthetic
    distilled = synthetic.read(file, None, refitted(run, file))
    check_asked(run, distilled.about, distilled.settings, file, named=path is not None)
    if path is None:
        tell_unfinished(run, distilled.about, distilled.settings)
    evaluation = Evaluation(run, distilled)
    scorer = evaluation.scorer(distilled, "test")
    kinds = _kinds(scorer, baselines_for(run.settings.evaluate, distilled.about.get("coding") or coding.PLAIN))
    report: dict[str, Any] = {
        "scores": evaluation.scores(scorer, (file, None, distilled.sha256), kinds, "networks", with_classes),
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
    `set` say how the snapshots were scored, and what the last one is. UserError where nothing can be scored, or the
    settings that were asked for are not the snapshots'.
    """
    files = states.snapshots(run.snapshots)
    if not files:
        raise UserError(f"{run.snapshots} holds no snapshots; run `{synthetic.MAKER}`")
    last = snapshot(run, files[-1])
    check_asked(run, last.about, last.settings, files[-1])
    evaluation = Evaluation(run, last)
    report: dict[str, Any] = {
        "protocol": evaluation.scorer(last, "test").description(VARIANTS),
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


def row(run: Run, file: Path, split: str, kinds: Sequence[str] = VARIANTS) -> dict[str, Any]:
    """A snapshot's scores on a split: its iteration, the split, and the scores by architecture and kind."""
    return Evaluation(run, snapshot(run, file)).row(file, split, kinds)


def share(
    run: Run,
    job: jobs.Job,
    file: str,
    kind: str | None,
    sha256: str,
    split: str,
    cases: list[Any],
    runs: list[int],
) -> None:
    """A rank's part in scoring a set: its share of the runs by which images are selected, and else of the cases.

    UserError where the file holds another set by now than the one with that SHA-256.
    """
    distilled = synthetic.read(Path(file), kind, refitted(run, Path(file)))
    if distilled.sha256 != sha256:
        raise UserError(f"{file} was changed while it was scored; wait until what writes it has ended, or score a copy")
    if "evaluation" not in job.kept:
        job.kept["evaluation"] = Evaluation(run, distilled)
    scorer = job.kept["evaluation"].scorer(distilled, split)
    wanted = [(arch, name, repeat) for arch, name, repeat in cases]
    if runs:
        scorer.train_selectors(wanted, run.ranks.share(runs))
        return
    if not run.out_of_time() and not jobs.seen(lambda: not scorer.missing_runs(wanted)):
        raise evaluation.unseen(evaluation.TRAININGS)
    own = run.ranks.share(wanted)
    with track("networks", len(own)) as progress:
        scorer.compute(own, progress)


def _kinds(scorer: Scorer, asked: Sequence[str]) -> tuple[str, ...]:
    """What is scored: coresets only where every class has enough images for them, and some are left."""
    classes = len(scorer.scored.about["classes"])
    smallest = int(scorer.real.train_labels.bincount(minlength=classes).min())
    kinds: list[str] = [name for name in VARIANTS if name in scorer.scored.variants]
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
        for kind in VARIANTS:
            place = max(range(len(rows)), key=lambda i: rows[i]["scores"][arch][kind]["mean"])
            reached = score(place)["scores"][arch][kind]
            best.setdefault(arch, {})[kind] = {"iteration": rows[place]["iteration"], **reached}
    return best


def _describe(distilled: synthetic.SyntheticSet) -> dict[str, Any]:
    names = ("dataset", "classes", "method", "ipc", "iteration", "network", "seed")
    named = {name: distilled.about[name] for name in names}
    of_file = {"sha256": distilled.sha256, "fingerprint": distilled.fingerprint}
    return {**named, **distilled.size, "lr": distilled.lr, **of_file}


def _write(path: Path, report: dict[str, Any]) -> None:
    """Write a report; one that can't be read is set aside first, never overwritten."""
    if path.exists():
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, UnicodeDecodeError) as error:
            set_aside(path, error)
    write_text(path, as_json(report) + "\n")
