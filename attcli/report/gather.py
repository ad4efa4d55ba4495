"""A results folder as the data of a report. What is missing or damaged leaves a gap, and a sentence that says why."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from attcli.errors import UserError, one_line
from attcli.options import VARIANTS
from attcli.records import cost, published, scores
from attcli.records.changes import Usual, differing, recipe_of, stated, usual
from attcli.records.making import coding_names, normaliser_of
from attcli.records.model import Code, Machine, Size, Times
from attcli.records.results import Results, dataset_of, experts_of
from attcli.records.scores import Scored
from attcli.report import courses, origins, pictures
from attcli.report.model import About, Facts, History, Pictures, RealImages
from attcli.settings import Resolved
from attcli.store import artefact, hdf5, history, synthetic

T = TypeVar("T")

COLUMNS = ("iteration", "loss", "step", "lr", "seconds", "accepted")
"""What is read of a history: not the distances, which may be large."""


class Gaps:
    """What was missing or damaged, a sentence each."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def tried(self, read: Callable[[], T]) -> T | None:
        """What `read` returns, or None with a sentence where that is not to be had."""
        try:
            return read()
        except UserError as error:
            self.add(str(error))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            self.add(one_line(f"a part of the results is not what it should be ({where}: {first['msg']})"))
        return None

    def add(self, sentence: str) -> None:
        """Add a sentence, once."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)


def facts(folder: Path, works: Sequence[Path], name: str = "", here: Resolved | None = None) -> Facts:
    """The data of a report of the set in a results folder.

    works: the folders where stages may have kept their times. here: the settings that the current folder asks for.
    UserError where there is no set, or its file is damaged; what else is missing is said in the data.
    """
    file = folder / "synthetic.h5"
    results = Results(folder, works, *artefact.read(file, synthetic.KIND, synthetic.MAKER))
    gaps, about, learned_lr = Gaps(), results.about, float(results.arrays["lr"])
    trained = gaps.tried(lambda: experts_of(results))
    making = results.header.settings.get("distill")
    without_experts = isinstance(making, Mapping) and "experts" not in making
    if trained is None and not without_experts:
        gaps.add("the experts are not beside the set, so their settings and number of epochs are not known")
    scored = gaps.tried(lambda: scores.read(folder, results.header))
    spent = gaps.tried(lambda: cost.spent(results, trained, scored.work if scored else None))
    ours, theirs = stated(results, trained, scored, learned_lr), usual(results)
    other = ours if theirs is None else differing(ours, theirs)
    size, images = _of_images(file, gaps)
    course = gaps.tried(lambda: _history(results))
    stages = ("prepare", "distill") if without_experts else ("prepare", "buffer", "distill")
    _note_times(gaps, spent.times if spent else Times(), stages)
    if course and course.iterations != about["iteration"]:
        gaps.add(f"the history tells of {course.iterations} of {about['iteration']} iterations")
    archs = list(scored.scores) if scored else []
    kinds = [kind for kind in (scored.scores[archs[0]].last if scored and archs else {}) if kind not in VARIANTS]
    return Facts(
        name=name or folder.resolve().name,
        about=_about(results, file, learned_lr, theirs),
        size=size,
        file_bytes=file.stat().st_size,
        normaliser=normaliser_of(results),
        real=gaps.tried(lambda: _real(results)),
        pictures=images,
        history=course,
        scores=scored.scores if scored else {},
        per_class=_per_class(folder, scored, len(about["classes"])),
        protocol=plain(scored.protocol) if scored else {},
        published=published.beside(about["method"], *coding_names(about), about["dataset"], about["ipc"]),
        recipe=recipe_of(theirs) if theirs else None,
        settings=origins.settings_of(results, plain(ours), theirs, here),
        times=spent.times if spent else Times(),
        experts=trained.trained if trained else None,
        code=Code(version=one_line(str(results.header.versions.get("attcli"))), commits=spent.commits if spent else []),
        machine=spent.machine if spent else Machine(),
        commands=plain(origins.commands(results, other, archs, kinds)),
        missing=gaps.sentences,
    )


def _about(results: Results, file: Path, learned_lr: float, theirs: Usual | None) -> About:
    """What the set is, by its header."""
    about = plain(results.about)
    parameterisation, storage = coding_names(about)
    return About(
        **{key: about[key] for key in ("dataset", "method", "ipc", "seed", "channels", "classes")},
        objective=plain(results.header.settings.get("distill", {}).get("objective", "trajectory")),
        parameterisation=parameterisation,
        storage=storage,
        iterations=about["iteration"],
        planned=theirs.values.get("distill.iterations") if theirs and recipe_of(theirs) else None,
        arch=about["network"]["arch"],
        side=about["resolution"],
        learned_lr=learned_lr if math.isfinite(learned_lr) else None,
        sha256=results.header.sha256,
        date=datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat(),
    )


def plain(value: Any) -> Any:
    """A value of a file with every text in one line, and without what cannot be written as UTF-8."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _of_images(file: Path, gaps: Gaps) -> tuple[Size | None, Pictures | None]:
    """What the set costs, and its pictures; nothing where it cannot be decoded, as without its normaliser."""
    distilled = gaps.tried(lambda: synthetic.read(file))
    if distilled is None:
        return None, None
    size = Size(classes=len(distilled.about["classes"]), **distilled.size)
    images = pictures.of_set(distilled)
    if images.as_networks_see_them:
        gaps.add(
            "the set's normaliser.h5 is not beside it, so the images are shown as networks see them; put it there and "
            "run `attcli report` again"
        )
    return size, images


def _history(results: Results) -> History | None:
    """The history of the set. UserError where it is missing, damaged or another run's."""
    file, header = artefact.open_file(results.folder / "history.h5", history.KIND, history.MAKER)
    with file:
        try:
            names = (*COLUMNS, history.SPAN) if history.SPAN in file else COLUMNS
            arrays: artefact.Arrays = hdf5.read(results.folder / "history.h5", {name: file[name] for name in names})
            chosen = file["l1"].shape[1] > 0  # distances, one of which is the smallest
        except (OSError, KeyError, RuntimeError) as error:
            raise artefact.damaged(results.folder / "history.h5", history.MAKER, error) from None
    if header.fingerprint != results.header.fingerprint:
        raise UserError(f"{results.folder / 'history.h5'} is of another set; run `{history.MAKER}`")
    steps = results.header.settings.get("distill", {}).get("syn_steps")
    return courses.of_history(history.by_iteration(arrays), steps, chosen=chosen)


def _real(results: Results) -> RealImages | None:
    """The training images; None where the dataset is gone or another one."""
    prepared, about = dataset_of(results), results.about
    if prepared is None:
        return None
    return RealImages(images=prepared[1], bytes=prepared[1] * about["channels"] * about["resolution"] ** 2)


def _note_times(gaps: Gaps, times: Times, stages: Sequence[str]) -> None:
    lacking = [stage for stage in stages if getattr(times, stage) is None]
    if lacking:
        gaps.add(f"the times of {', '.join(lacking)} are not known, as no work folder keeps them")


def _per_class(folder: Path, scored: Scored | None, classes: int) -> dict[str, dict[str, list[float | None]]]:
    """The accuracy on each class by architecture and kind, as far as the scores' file tells it."""
    path = folder / "scores.json"
    if scored is None or not path.exists():
        return {}
    content: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_bytes())["scores"]
    told: dict[str, dict[str, Any]] = {
        arch: {kind: entry.get("per_class") for kind, entry in kinds.items()} for arch, kinds in content.items()
    }
    return {
        arch: {kind: values for kind, values in kinds.items() if _are_percents(values, classes)}
        for arch, kinds in told.items()
    }


def _are_percents(values: Any, classes: int) -> bool:
    """Whether a value of a file is a percentage, or null, for every class."""
    if not isinstance(values, list) or len(values) != classes:
        return False
    return all(value is None or (isinstance(value, int | float) and 0 <= value <= 100) for value in values)
