"""What a run cost: the time of its stages, and the images that its students went through."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attcli.records.model import Machine, Students, Time, Times
from attcli.records.results import Results, Trained, dataset_of
from attcli.store import artefact, hdf5, history, times

COLUMNS = ("iteration", "step", "seconds")
"""What is read of a history."""


@dataclass(frozen=True)
class Spent:
    """The time of each stage, the machine that distilled, and the commits of attcli that the stages ran from."""

    times: Times
    machine: Machine
    commits: list[str]


def spent(results: Results, trained: Trained | None, scores_work: str | None) -> Spent:
    """What the stages took, as their work folders say it; `scores_work` is the name of the scores' own."""
    prepared = dataset_of(results)
    identities = {
        "prepare": prepared[0].fingerprint if prepared else None,
        "buffer": trained.fingerprint if trained else None,
        "distill": results.header.fingerprint,
        "evaluate": scores_work.partition("-")[2] if scores_work else None,
    }
    lines: dict[str, list[dict[str, Any]]] = {}
    for stage, identity in identities.items():
        folder = results.work(stage, identity) if identity else None
        lines[stage] = times.read(folder) if folder else []
    told = _history(results)
    machine = {**(lines["distill"][-1].get("machine", {}) if lines["distill"] else {}), **(told[0] if told else {})}
    commits = [line.get("attcli", {}).get("commit") for of_stage in lines.values() for line in of_stage]
    return Spent(
        Times(
            **{stage: _sum(of_stage) for stage, of_stage in lines.items() if of_stage},
            iterations_wall_s=_seconds(results, told[1]) if told else None,
        ),
        Machine(**{name: value for name, value in machine.items() if name in Machine.model_fields}),
        [commit for commit in dict.fromkeys(commits) if commit],
    )


def students(results: Results) -> Students | None:
    """The images that the students of all iterations went through, forward and in the adjoint steps.

    A batch that has to be filled up counts as a whole one. None for a set that was not distilled in steps.
    """
    settings = results.header.settings.get("distill", {})
    steps = settings.get("syn_steps")
    if not steps:
        return None
    images = len(results.about["classes"]) * results.images_per_class
    batch = min(settings.get("batch_syn") or images, images)
    told = _history(results)
    matched = int(told[1]["step"].sum()) if told and _is_whole(results, told[1]) else None
    return Students(
        steps_per_iteration=steps,
        batch=batch,
        images_forward=results.about["iteration"] * settings.get("spans", 1) * steps * batch,
        images_adjoint=None if matched is None else matched * batch,
    )


def _sum(lines: list[dict[str, Any]]) -> Time:
    return Time(
        cpu_s=round(sum(line["cpu_s"] for line in lines), 3),
        wall_s=round(sum(line["wall_s"] for line in lines), 3),
        invocations=len(lines),
    )


def _history(results: Results) -> tuple[Mapping[str, Any], artefact.Arrays] | None:
    """What the distillation ran on, and its history without distances; None where it is gone or another run's."""
    path = results.folder / "history.h5"
    if not path.exists():
        return None
    file, header = artefact.open_file(path, history.KIND, history.MAKER)
    with file:  # whose distances may be large
        arrays: artefact.Arrays = hdf5.read(path, {name: file[name] for name in COLUMNS if name in file})
    same = header.fingerprint == results.header.fingerprint
    return (header.about.get("machine", {}), arrays) if same else None


def _is_whole(results: Results, arrays: artefact.Arrays) -> bool:
    """Whether a history tells of every iteration of the set."""
    spans = results.header.settings.get("distill", {}).get("spans", 1)
    return bool(len(arrays["iteration"]) == results.about["iteration"] * spans)


def _seconds(results: Results, arrays: artefact.Arrays) -> float | None:
    """The seconds of all iterations; None where some are lost."""
    whole = "seconds" in arrays and _is_whole(results, arrays)
    return round(float(arrays["seconds"].sum(dtype=float)), 3) if whole else None
