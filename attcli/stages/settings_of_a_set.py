"""The settings that a set was made with, as its file says them, to make it again."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attcli.errors import UserError, brief
from attcli.settings import Settings, resolve
from attcli.settings.choices import SCORES
from attcli.settings.layers import names
from attcli.stages import identity
from attcli.stages.settings_of_results import Values, flat
from attcli.store import artefact, synthetic

SECTIONS = ("prepare", "network", "buffer", "distill", "evaluate")
STAGES = ("buffer", "prepare", "distill")
"""The stages with a seed that a set's file says; where they differ, the common one is rather that of the first."""


def of_set(path: Path, data_dir: Path | None = None) -> Settings:
    """The settings that a set, or a snapshot, says in its file that it was made with.

    With these, `distill` makes it again, as far as the file says: up to its iteration. `data_dir` is where images of
    one's own lie, for which the settings are checked. UserError where the file does not say enough, or the images that
    are there are not the set's.
    """
    header = synthetic.header(path)
    values = _stated(path, header)
    where = {} if data_dir is None else {"runtime.data_dir": str(data_dir)}
    try:
        settings = resolve({**values, **where}, ignore_params=True).settings
        if settings.reads_experts and settings.epochs == settings.matched_epochs:
            settings = resolve({**values, **where, "buffer.epochs": "auto"}, ignore_params=True).settings
        differing = _differing(settings, header)
    except UserError as error:
        raise UserError(f"the settings in {path} can't be used here: {error}") from None
    if differing:
        raise UserError(f"{path} can't be made again by what it says ({'; '.join(differing)}); name another set")
    return settings


def _stated(path: Path, header: artefact.Header) -> Values:
    """What the file says of settings, by dotted names. UserError where it can't say enough."""
    about = header.about
    if header.settings.get("imported") or "imported" in about:
        raise UserError(f"{path} was imported, and does not say how it was distilled; name a set that attcli distilled")
    said = {**header.settings, "prepare": about.get("prepare"), "buffer": about.get("buffer")}
    made_by = flat({section: values for section, values in said.items() if section in SECTIONS})
    for name, what in (("distill.start_from", "began as another set"), ("buffer.difficulty", "ranks images by a file")):
        if made_by.get(name) not in (None, *SCORES):
            file = brief(made_by[name])[:40]
            raise UserError(
                f"{path} {what}, which it does not hold ({file}); `attcli config --diff {path}` shows its settings"
            )
    lacking = [] if about.get("prepare") else ["its images were prepared"]
    lacking += ["its experts were trained"] if "buffer.experts" in made_by and not about.get("buffer") else []
    if lacking:
        raise UserError(
            f"{path} does not say how {' and how '.join(lacking)}, as an older attcli wrote it; name another set"
        )
    younger = {name: value for name, value in identity.LATER.items() if name not in made_by}
    known = set(names())
    return {
        **{name: value for name, value in {**younger, **made_by}.items() if name in known},
        **_scored_by(about["protocol"], made_by),
        **_seeds(about["seed"], made_by),
        "distill.method": about["method"],
        "distill.iterations": about["iteration"],
        "distill.ipc": about["ipc"],
        "prepare.dataset": about["dataset"],
    }


def _scored_by(protocol: Mapping[str, Any], made_by: Values) -> Values:
    """How the set is to be scored. What is None is left to the literature; augmentation may be that of the set."""
    own = {**protocol, "augment": None} if protocol["augment"] == made_by.get("distill.augment") else protocol
    return {f"evaluate.{name}": value for name, value in own.items()}


def _seeds(of_distilling: int, made_by: Values) -> Values:
    """The common seed, which is the one of most stages, and those of the others."""
    own = {stage: made_by.get(f"{stage}.seed") for stage in STAGES} | {"distill": of_distilling}
    common = Counter(seed for seed in own.values() if seed is not None).most_common(1)[0][0]
    return {"seed": common, **{f"{stage}.seed": None if seed == common else seed for stage, seed in own.items()}}


def _differing(settings: Settings, header: artefact.Header) -> list[str]:
    """What the set says otherwise than these settings do, each in words."""
    about = header.about
    kept, asked = identity.of_inputs(settings, about)
    there = {**identity.LATER, **flat({**header.settings, "evaluate": about["protocol"]}), **kept}
    here = {
        **identity.LATER,
        **flat({**identity.distillation(settings), "evaluate": identity.protocol(settings)}),
        **asked,
    }
    differing = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
    words = [f"{name} is {brief(there.get(name))} in it, {brief(here.get(name))} here" for name in differing]
    if identity.files(settings) != ({} if about.get("files") is None else {"files": about["files"]}):
        words.append(f"the images in {settings.runtime.data_dir} are not those that it was made from")
    return words
