"""A record of what a results folder holds: the set, its experts and history, and its scores."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from attcli.errors import UserError
from attcli.records import cost, published, scores
from attcli.records.changes import changes
from attcli.records.model import Code, Normaliser, Record, Size
from attcli.records.results import Results, experts_of
from attcli.store import artefact, synthetic

FLOAT32 = 4
"""Bytes of a number."""


def make(name: str, folder: Path, works: Sequence[Path], note: str = "") -> Record:
    """The record of the set in a results folder. `works` are the work folders where stages may have kept their times.

    UserError where there is no set or no score, where the scores are of another set, or where a file is damaged.
    """
    file = folder / "synthetic.h5"
    results = Results(folder, works, *artefact.read(file, synthetic.KIND, synthetic.MAKER))
    about, header = results.about, results.header
    scored = scores.read(results.folder, header)
    trained = experts_of(results)
    spent = cost.spent(results, trained, scored.work)
    learned_lr = float(results.arrays["lr"])
    resting_on = changes(results, trained, scored, learned_lr)
    parameterisation, storage = coding_names(about)
    try:
        return Record(
            name=name,
            note=note,
            date=datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat(),
            **{key: about[key] for key in ("dataset", "method", "ipc", "seed")},
            parameterisation=parameterisation,
            storage=storage,
            iterations=about["iteration"],
            set_sha256=header.sha256,
            recipe=resting_on.recipe,
            changes=resting_on.differing,
            attcli=Code(version=str(header.versions.get("attcli")), commits=spent.commits),
            machine=spent.machine,
            times=spent.times,
            experts=trained.trained if trained else None,
            students=cost.students(results),
            size=Size(classes=len(about["classes"]), **synthetic.read(file).size),
            normaliser=normaliser_of(results),
            learned_lr=learned_lr,
            protocol=scored.protocol,
            scores=scored.scores,
            published=published.beside(about["method"], parameterisation, storage, about["dataset"], about["ipc"]),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{folder} makes no record ({where}: {first['msg']}); score the set again: `attcli evaluate --fresh`"
        ) from None


def coding_names(about: Mapping[str, Any]) -> tuple[str, str]:
    """The names of the parameterisation and the storage; files that do not say hold pixels in float32."""
    coding = about.get("coding")
    return (coding["parameterisation"]["name"], coding["storage"]["name"]) if coding else ("pixels", "float32")


def normaliser_of(results: Results) -> Normaliser:
    """The normaliser's kind and size, which follows from the images where the set's file leaves a large matrix out."""
    about, kind = results.about, results.about["normaliser"]["kind"]
    held = [array for name, array in results.arrays.items() if name.startswith("normaliser/")]
    values = about["channels"] * about["resolution"] ** 2
    matrix = values * values + 2 * values  # with means and eigenvalues
    numbers = {"zca": matrix, "contrast": matrix + 2, "standardise": 2 * about["channels"]}
    size = sum(int(np.asarray(array).nbytes) for array in held) if held else FLOAT32 * numbers[kind]
    return Normaliser(kind=kind, bytes=size, in_the_sets_file=bool(held))
