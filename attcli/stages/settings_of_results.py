"""The settings that results were made with, as far as their files say them, beside those that are asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attcli.errors import UserError
from attcli.settings import Settings
from attcli.stages import identity
from attcli.stages.run import NAMES
from attcli.store import artefact, dataset, experts, states, synthetic

Values = dict[str, Any]
"""Values by the dotted names of settings."""


def compared(path: Path, settings: Settings) -> tuple[Values, Values]:
    """What `settings` ask for, and what the results in a folder, or a set's file, were made with.

    Both name only settings that are part of what these results are, and that the choices on their side read. UserError
    for a folder without results and for files of other kinds.
    """
    files = _in_folder(path) if path.is_dir() else [path]
    asked: Values = {}
    kept: Values = {}
    for file in files:
        kind = artefact.kind_of(file)
        if kind not in (dataset.KIND, experts.KIND, synthetic.KIND, states.KIND):
            what = f"a file of kind {kind!r}" if kind else "damaged, or no file of attcli"
            raise UserError(f"{file} is {what}; name a folder of results, a set's file, a recipe or a params file")
        header = artefact.header(file, kind, "attcli")
        if kind == dataset.KIND:
            asked |= flat({"prepare": identity.prepare(settings)[1]})
            kept |= flat({"prepare": header.settings})
        elif kind == experts.KIND:
            asked |= flat(identity.buffer(settings, "")[1])
            kept |= flat(header.settings)
        else:
            asked |= {**flat(identity.distillation(settings)), **_of_the_run(settings)}
            of_inputs, asked_of_inputs = identity.of_inputs(settings, header.about)
            asked |= {**asked_of_inputs, **asked}  # a dataset and experts beside the set have said it already
            kept |= {**of_inputs, **kept}
            reached = {"distill.method": header.about["method"], "distill.iterations": header.about["iteration"]}
            kept |= {**flat(header.settings), **reached, "prepare.dataset": header.about["dataset"]}
    return asked, kept


def _in_folder(folder: Path) -> list[Path]:
    candidates = [folder / "dataset.h5", experts.path(folder / "experts", 0), folder / "synthetic.h5"]
    files = [file for file in candidates if file.exists()]
    if not files:
        raise UserError(
            f"{folder} holds no results of attcli (no dataset.h5, experts or synthetic.h5); name another one"
        )
    return files


def _of_the_run(settings: Settings) -> Values:
    """What a set's file says apart from its identity."""
    distill = settings.distill
    return {
        "distill.method": distill.method,
        "distill.iterations": distill.iterations,
        "prepare.dataset": settings.prepare.dataset,
    }


def flat(sections: Mapping[str, Any]) -> Values:
    """The values of all sections by the dotted names of their settings."""
    named = {
        f"{section}.{key}": value
        for section, values in sections.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
    }
    return {NAMES.get(name, name): value for name, value in named.items()}
