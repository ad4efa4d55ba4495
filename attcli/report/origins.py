"""The settings of a run with where each came from, and the commands that make it again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from attcli.records.changes import Usual, recipe_of, selectors
from attcli.records.results import Results
from attcli.report.model import Setting
from attcli.settings import Resolved
from attcli.settings.layers import description, names, values_of
from attcli.settings.recipes import Value, get

ASKED = "asked for"
"""The origin of what a recipe is found by."""

HERE = "set for this run"
"""The origin of a value that neither the recipe nor the defaults have; files do not say whether by flag or by file."""

UNKNOWN = "the set's file"
"""The origin where the usual settings are not known, as those of a plugin that is missing."""

FOLLOWS = "follows from other settings"

DEFAULT_ARTIFACTS = "artifacts"

OWN_IMAGES = "folder"
"""The dataset that cannot be read without --data-dir."""

FLAGS = {
    "distill.method": "--method",
    "prepare.dataset": "--dataset",
    "distill.ipc": "--ipc",
    "distill.iterations": "--iterations",
}
"""Settings with a flag of their own, in the order that commands name them."""

IMPORTED = ("prepare.dataset", "distill.ipc")
"""Those of them that the command takes which imports a set."""

OF_SCORES = ("evaluate.repeats", "evaluate.lr")
"""Settings that only the command that scores needs; the protocol is in the set's file."""


def settings_of(
    results: Results, ours: Mapping[str, Any], theirs: Usual | None, here: Resolved | None
) -> list[Setting]:
    """The settings that a run's files state, those that differ from the usual ones first, otherwise by name.

    here: what the current folder asks for, whose params file may be where a value came from.
    """
    found_by = selectors(results)
    values = {**found_by, **ours}
    cited = get(recipe).values if theirs and (recipe := recipe_of(theirs)) else {}
    entries = [_setting(name, value, theirs, here, cited, name in found_by) for name, value in values.items()]
    return sorted(entries, key=lambda entry: (not entry.differs, entry.name))


def _setting(
    name: str,
    value: Any,
    theirs: Usual | None,
    here: Resolved | None,
    cited: Mapping[str, Value],
    is_selector: bool,
) -> Setting:
    says = description(name) if name in set(names()) else ""
    if is_selector:
        return Setting(name=name, value=value, origin=_in_params(name, value, here) or ASKED, says=says)
    if theirs is None:
        return Setting(name=name, value=value, origin=UNKNOWN, says=says)
    usual = theirs.values.get(name)
    if name not in theirs.values or usual != value:
        origin = _in_params(name, value, here) or HERE
        return Setting(name=name, value=value, origin=origin, says=says, usual=usual, differs=True)
    origin = theirs.resolved.origin.get(name, FOLLOWS)
    source = cited.get(name) if origin.startswith("recipe") else None
    return Setting(
        name=name,
        value=value,
        origin=origin,
        says=says,
        source=source.source if source else "",
        doubt=(source.doubt or "") if source else "",
    )


def _in_params(name: str, value: Any, here: Resolved | None) -> str | None:
    """The params file of the current folder, where that gives this setting this value."""
    if here is None or here.params is None or here.origin.get(name) != str(here.params):
        return None
    return str(here.params) if values_of(here.settings).get(name) == value else None


def commands(results: Results, differing: Mapping[str, Any], archs: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """The commands that make the set again, and score and report it, in a folder without params.yaml.

    differing: the settings that are not the usual ones. archs and kinds: the networks and baselines of its scores.
    No file says where somebody's own images lie, scores of them, an imported set, or one that distilling began from;
    `FOLDER` and `FILE` stand for that.
    """
    settable = set(names())
    flags = {**selectors(results), "distill.iterations": results.about["iteration"]}
    folder = results.folder.resolve().name  # not the folders above it, which are nobody else's concern
    at = [] if folder == DEFAULT_ARTIFACTS else ["--artifacts", folder]
    imported = "imported" in results.about
    distill = ["attcli", "import", "FILE"] if imported else ["attcli", "distill"]
    for name, flag in FLAGS.items():
        if not imported or name in IMPORTED:
            distill += [flag, str(flags[name])]
    for name, value in sorted(differing.items()):
        if name == "distill.start_from":
            distill += ["--from", "FILE"]
        elif name in settable and name not in FLAGS and name not in OF_SCORES and not imported:
            by_content = isinstance(value, str) and value.startswith("sha256:") and name == "buffer.difficulty"
            distill += ["--set", f"{name}={'FILE' if by_content else _written(value)}"]
    if flags["prepare.dataset"] == OWN_IMAGES:
        distill += ["--data-dir", "FOLDER"]
    lines = [[*distill, *at]]
    if archs:
        evaluate = ["attcli", "evaluate", "--archs", ",".join(archs)]
        evaluate += ["--baselines", ",".join(kinds) or "none"]
        for name in OF_SCORES:
            evaluate += ["--set", f"{name}={_written(differing[name])}"] if name in differing else []
        lines.append([*evaluate, *at])
    return [shlex.join(words) for words in [*lines, ["attcli", "report", *at]]]


def _written(value: Any) -> str:
    """A value as --set reads it back."""
    return value if isinstance(value, str) else json.dumps(value)
