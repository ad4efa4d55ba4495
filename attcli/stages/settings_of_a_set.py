"""The settings that a set was made with, as its file says them, to make it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attcli.errors import UserError, brief
from attcli.settings import Settings, resolve
from attcli.settings.choices import SCORES
from attcli.stages import identity
from attcli.stages.settings_of_results import Values, flat
from attcli.store import artefact, synthetic

SECTIONS = ("prepare", "network", "buffer", "distill")


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
        differing = _differing(settings, header)
    except UserError as error:
        reason = str(error).replace(" (from flag)", "")
        raise UserError(f"the settings in {path} can't be used here: {reason}") from None
    if differing:
        raise UserError(f"{path} can't be made again by what it says ({'; '.join(differing)}); name another set")
    return settings


def _stated(path: Path, header: artefact.Header) -> Values:
    """What the file says of settings, by dotted names. UserError where it can't say enough."""
    about = header.about
    if header.settings.get("imported") or "imported" in about:
        raise UserError(f"{path} was imported, and does not say how it was distilled; name a set that attcli distilled")
    said = about.get("made_with")
    if not said or not all(isinstance(said.get(section), Mapping) for section in SECTIONS):
        raise UserError(
            f"{path} does not say all settings that it was made with: an older attcli wrote it; name another"
        )
    values = flat({section: said.get(section) for section in SECTIONS})
    for name, what in (("distill.start_from", "began as another set"), ("buffer.difficulty", "ranks images by a file")):
        if values.get(name) not in (None, *SCORES):
            file = brief(values[name])[:40]
            raise UserError(
                f"{path} {what}, which it does not hold ({file}); `attcli config --diff {path}` shows its settings"
            )
    younger = {name: value for name, value in identity.LATER.items() if name not in values}
    reached = {"distill.iterations": about["iteration"]}
    return {**younger, **values, **_scored_by(about["protocol"], values), "seed": said.get("seed"), **reached}


def _scored_by(protocol: Mapping[str, Any], made_with: Values) -> Values:
    """How the set is to be scored. What is None is left to the literature; augmentation may be that of the set."""
    own = {**protocol, "augment": None} if protocol["augment"] == made_with.get("distill.augment") else protocol
    return {f"evaluate.{name}": value for name, value in own.items()}


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
