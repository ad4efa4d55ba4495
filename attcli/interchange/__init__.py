"""Sets and experts in the forms of other programs: one file for each form, found by its name.

A module has a FORMAT, and `recognises(path)`, which judges by names alone. One for sets has `read(path)`, if it can be
read, and, if it can be written, `write(folder, whole, variant)` with `files(folder, whole)`, what that writes, and
`losses(whole, variant)`, a line for each thing that the form has no place for. It may have `earlier(folder)`, the other
files of a set that was written into a folder before. Modules are imported without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attcli import registry
from attcli.errors import UserError, brief

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

    from attcli.data.normalise import Normaliser
    from attcli.store.artefact import Arrays, Header

Holds = Literal["set", "experts"]


@dataclass(frozen=True)
class Format:
    """What a form is called in messages, what it holds, and in which directions it goes."""

    title: str
    holds: Holds = "set"
    reads: bool = True
    writes: bool = True


@dataclass(frozen=True)
class Whole:
    """A distilled set with all that its own file says: the header, the arrays as the file has them, the normaliser.

    The normaliser is None where it is not at hand.
    """

    header: Header
    arrays: Arrays
    normaliser: Normaliser | None

    def known_normaliser(self) -> Normaliser:
        """The normaliser. UserError where it is not at hand."""
        if self.normaliser is None:
            raise UserError("the set's normaliser is missing: put the normaliser.h5 that was made with it beside it")
        return self.normaliser


@dataclass(frozen=True)
class Plain:
    """A set as others keep it.

    images: network inputs, floating-point (n, C, H, W), or pictures u8 (n, C, H, W). labels: classes i64 (n,) or logits
    (n, K). lr: the learning rate, where it is known. file, sha256: which file they are from. header: what the set's own
    file said, where the form carries it, and normaliser likewise.
    """

    images: Tensor
    labels: Tensor
    lr: float | None
    file: str
    sha256: str
    header: Header | None = None
    normaliser: Normaliser | None = None


def names(holds: Holds | None = None, *, reads: bool = False, writes: bool = False) -> tuple[str, ...]:
    """The names of the forms that hold such a thing, and can be read or written."""
    formats: Mapping[str, Format] = {name: load(name).FORMAT for name in registry.names("format")}
    return tuple(
        name
        for name, form in formats.items()
        if (holds is None or form.holds == holds) and (form.reads or not reads) and (form.writes or not writes)
    )


def load(name: str) -> ModuleType:
    """The module of a form. UserError if there is none of that name."""
    return registry.module("format", name)


def _refuse_own(path: Path) -> None:
    """UserError for a file that attcli itself wrote, or for the folder of its results."""
    from attcli.store import artefact, states, synthetic

    for own in (path, path / "synthetic.h5"):
        kind = artefact.kind_of(own)
        if kind in (synthetic.KIND, states.KIND):
            raise UserError(f"{own} is a set of attcli itself; name that file, as in `attcli evaluate {own}`")
        if kind is not None:
            raise UserError(
                f"{own} is a file of attcli itself, but no set ({brief(kind)}); name another file or folder"
            )


def recognised(path: Path) -> str:
    """The name of the form that a file or folder has. UserError where it is missing, or has none that can be read."""
    if not path.exists():
        raise UserError(f"{path} is missing; name a file or folder that exists")
    for name in names(reads=True):
        if load(name).recognises(path):
            return name
    _refuse_own(path)
    listing = "; ".join(f"{name}: {load(name).FORMAT.title}" for name in names(reads=True))
    raise UserError(f"{path} is in no form that attcli can read ({listing}); name another file or folder")


def read(path: Path, name: str | None = None) -> Whole | Plain:
    """The set in a file or folder of that form, or of the one that its names tell. UserError where it is none."""
    module = load(name or recognised(path))
    if module.FORMAT.holds != "set" or not module.FORMAT.reads:
        raise UserError(f"{path}: {module.FORMAT.title} is no set that can be read; name another file or folder")
    content: Whole | Plain = module.read(path)
    return content


def about_to_write(files: list[Path], force: bool) -> None:
    """UserError if one of the files is there and may not be replaced. What killed processes left of them is removed."""
    if (taken := [file for file in files if file.exists()]) and not force:
        raise UserError(f"{taken[0]} is there already; --force overwrites it, --out FOLDER writes elsewhere")
    from attcli.atomic import sweep_killed

    for file in files:
        sweep_killed(file)


LONGEST_DETAILS = 200
"""Characters of another program's error that a message repeats."""


def details(error: Any) -> str:
    """What an error of another program says, in one short line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= LONGEST_DETAILS else f"{words[:LONGEST_DETAILS]}…"
