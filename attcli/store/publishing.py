"""Finished files get their name among the results; another identity's result is never replaced by accident."""

import os
from pathlib import Path

from attcli.errors import UserError
from attcli.store import artefact
from attcli.store.files import link


def publish(source: Path, target: Path, *, force: bool = False) -> None:
    """Give the finished artefact `source` the name `target` too.

    UserError where `target` is an artefact of another fingerprint, or damaged, unless `force`. Stages look before they
    begin; this is the last defence, whatever happened since.
    """
    if target.exists() and not os.path.samefile(source, target) and not force:
        new, kept = _fingerprint(source), _fingerprint(target)
        if new != kept:
            raise UserError(
                f"{target} was made with other settings (its fingerprint is {kept}, not {new}); "
                "--force overwrites it, --artifacts DIR writes elsewhere"
            )
    link(source, target)


def _fingerprint(path: Path) -> str:
    kind = artefact.kind_of(path)
    if kind is None:
        raise UserError(f"{path} is damaged, or no file of attcli; move it elsewhere")
    return artefact.header(path, kind, "attcli").fingerprint
