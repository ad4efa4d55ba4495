"""The settings that results were made with, as far as their files say them, beside those that are asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attcli.errors import UserError
from attcli.settings import Settings, resolve
from attcli.settings.layers import names
from attcli.stages import identity
from attcli.stages.run import NAMES, differences
from attcli.store import artefact, dataset, experts, states, synthetic

STAGES = ("prepare", "buffer", "distill")

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
            asked |= _flat({"prepare": identity.prepare(settings)[1]})
            kept |= _flat({"prepare": header.settings})
        elif kind == experts.KIND:
            asked |= _flat(identity.buffer(settings, "")[1])
            kept |= _flat(header.settings)
        else:
            asked |= {**_flat(identity.distillation(settings)), **_of_the_run(settings)}
            of_inputs, asked_of_inputs = identity.of_inputs(settings, header.about)
            asked |= {**asked_of_inputs, **asked}  # the files of these themselves say more, where they are there
            kept |= {**of_inputs, **kept}
            reached = {"distill.method": header.about["method"], "distill.iterations": header.about["iteration"]}
            kept |= {**_flat(header.settings), **reached, "prepare.dataset": header.about["dataset"]}
    return asked, kept


def of_set(path: Path) -> Settings:
    """The settings that a set says in its file that it was made with; with these, `distill` makes it again.

    UserError where they can't be said as settings here: for an imported set, for one that began as another set, and
    for one that says nothing of how its experts were trained, as an earlier attcli wrote it.
    """
    header = synthetic.header(path)
    about = header.about
    if header.settings.get("imported") or "imported" in about:
        raise UserError(f"{path} was imported, and does not say how it was distilled; name a set that attcli distilled")
    made_by = _flat({**header.settings, "prepare": about.get("prepare") or {}, "buffer": about.get("buffer") or {}})
    if begun := made_by.get("distill.start_from"):
        raise UserError(
            f"{path} began as another set, which it does not hold (SHA-256 {str(begun)[:12]}…); `attcli config --diff "
            f"{path}` shows its settings"
        )
    younger = {name: value for name, value in identity.LATER.items() if name not in made_by}
    own = {name: value for name, value in {**younger, **made_by}.items() if name in set(names())}
    seed = about["seed"]
    stages = {f"{stage}.seed": None for stage in STAGES if made_by.get(f"{stage}.seed") in (None, seed)}
    reached = {"distill.method": about["method"], "distill.iterations": about["iteration"]}
    chosen = {"prepare.dataset": about["dataset"], "distill.ipc": about["ipc"], **reached}
    values = {**own, **_scored_by(about["protocol"], made_by), **stages, "seed": seed, **chosen}
    settings = resolve(values, environ={}, ignore_params=True).settings
    kept, asked = identity.of_inputs(settings, about)
    differing = differences({**header.settings, **kept}, {**identity.distillation(settings), **asked})
    if settings.reads_experts and "buffer" not in about:
        differing.append("how its experts were trained is not said in it")
    if differing:
        raise UserError(
            f"{path} does not say all that is needed to make it again ({'; '.join(differing)}); `attcli config --diff "
            f"{path}` shows what it says"
        )
    return settings


def _scored_by(protocol: Mapping[str, Any], made_by: Values) -> Values:
    """The protocol in a set's file, without what is left to the literature's, and an augmentation that is the set's."""
    own = {name: value for name, value in protocol.items() if value is not None}
    if own.get("augment") == made_by.get("distill.augment"):
        own.pop("augment")
    return {f"evaluate.{name}": value for name, value in own.items()}


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


def _flat(sections: Mapping[str, Any]) -> Values:
    named = {
        f"{section}.{key}": value
        for section, values in sections.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
    }
    return {NAMES.get(name, name): value for name, value in named.items()}
