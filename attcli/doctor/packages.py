"""Python and the installed packages, against the versions that attcli declares to work with."""

import platform
import shlex
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from attcli import __version__
from attcli.doctor.finding import Finding
from attcli.settings import Settings

PACKAGE = "attcli"
UNDECLARED = "attcli itself is not installed, so the supported versions are not known"
INSTALL = "install attcli with pip, as README.md says"


def python(settings: Settings) -> Finding:
    """The version of Python and the system."""
    says = f"{platform.python_version()} on {platform.system()} {platform.machine()}; attcli {__version__}"
    try:
        supported = metadata(PACKAGE)["Requires-Python"] or ""
    except PackageNotFoundError:
        supported = ""
    if not SpecifierSet(supported).contains(platform.python_version(), prereleases=True):
        return Finding("python", "problem", f"{says}; supported: {supported}", f"install Python {supported}")
    return Finding("python", "ok", says)


def required(settings: Settings) -> Finding:
    """The packages that attcli cannot do without."""
    declared = _declared(extra="")
    if declared is None:
        return Finding("packages", "note", UNDECLARED, INSTALL)
    wrong = [entry for entry in declared if not _fits(entry)]
    if wrong:
        says = "; ".join(
            f"{entry.name} is {_installed(entry) or 'missing'}, supported: {_range(entry)}" for entry in wrong
        )
        return Finding("packages", "problem", says, _pip(wrong))
    return Finding("packages", "ok", ", ".join(f"{entry.name} {_installed(entry)}" for entry in declared))


def optional(settings: Settings) -> Finding:
    """The packages of the extras."""
    try:
        extras = metadata(PACKAGE).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return Finding("extras", "note", UNDECLARED, INSTALL)
    by_extra = {extra: _declared(extra) or [] for extra in extras}
    old = [entry for entries in by_extra.values() for entry in entries if _installed(entry) and not _fits(entry)]
    if old:
        says = "; ".join(f"{entry.name} is {_installed(entry)}, supported: {_range(entry)}" for entry in old)
        return Finding("extras", "note", says, _pip(old))
    parts = {extra: all(_installed(entry) for entry in entries) for extra, entries in by_extra.items()}
    missing = [extra for extra, complete in parts.items() if not complete]
    says = f"installed: {', '.join(extra for extra, complete in parts.items() if complete) or 'none'}"
    if missing:
        return Finding(
            "extras", "ok", f"{says}; to add others if you need them: pip install 'attcli[{','.join(missing)}]'"
        )
    return Finding("extras", "ok", says)


def _declared(extra: str) -> list[Requirement] | None:
    """What attcli needs, or what one of its extras adds; None where attcli is not installed."""
    try:
        declared = [Requirement(text) for text in requires(PACKAGE) or []]
    except PackageNotFoundError:
        return None
    if not extra:
        return [entry for entry in declared if entry.marker is None or entry.marker.evaluate({"extra": ""})]
    marked = [entry for entry in declared if entry.marker is not None]
    return [
        e for e in marked if e.marker and e.marker.evaluate({"extra": extra}) and not e.marker.evaluate({"extra": ""})
    ]


def _installed(entry: Requirement) -> str | None:
    try:
        return version(entry.name)
    except PackageNotFoundError:
        return None


def _fits(entry: Requirement) -> bool:
    installed = _installed(entry)
    return installed is not None and entry.specifier.contains(installed, prereleases=True)


def _range(entry: Requirement) -> str:
    return str(entry.specifier) or "any version"


def _pip(entries: list[Requirement]) -> str:
    return "pip install --upgrade " + " ".join(shlex.quote(f"{entry.name}{entry.specifier}") for entry in entries)
