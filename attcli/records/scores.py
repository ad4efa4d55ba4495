"""The scores of a results folder: of the set as it is, and of its snapshots by the two other rules."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attcli.errors import UserError
from attcli.records.model import Score, Scores
from attcli.store import artefact

EVALUATE = "attcli evaluate"
RULES = {"selected": "selected", "largest": "literature_maximum"}
"""The rules beside `last`, and their names in snapshot-scores.json."""


@dataclass(frozen=True)
class Scored:
    """Scores by architecture; the protocol; the name of the work folder that keeps the results, where it is known."""

    scores: dict[str, Scores]
    protocol: dict[str, Any]
    work: str | None


def read(folder: Path, header: artefact.Header) -> Scored:
    """The scores in a results folder of the set with that header.

    UserError where there are none, where they are of another set, or where the snapshots were scored otherwise.
    """
    own, snapshots = folder / "scores.json", folder / "snapshot-scores.json"
    if not own.exists() and not snapshots.exists():
        raise UserError(f"{folder} holds no scores; run `{EVALUATE}`")
    by_rule = _of_snapshots(snapshots, header) if snapshots.exists() else {}
    if not own.exists():
        last, protocol, work = by_rule["last"]["scores"], by_rule["protocol"], None
    else:
        last, protocol, work = _of_the_set(own, header)
        if by_rule and (differing := _differing(protocol, by_rule["protocol"])):
            raise UserError(
                f"{snapshots} was scored by another protocol than scores.json (other {', '.join(differing)}); "
                f"score both alike: `{EVALUATE}` and `{EVALUATE} --snapshots`"
            )
    if not last or not all(last.values()):
        raise UserError(f"the scores in {folder} are empty; score the set again: `{EVALUATE}`")
    try:
        by_arch = {arch: _by_rules(arch, entries, by_rule) for arch, entries in last.items()}
    except (ValidationError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[-2 if isinstance(error, ValidationError) else -1].strip()
        raise UserError(f"the scores in {folder} are damaged ({reason}); score the set again: `{EVALUATE}`") from None
    return Scored(by_arch, protocol, work)


def _of_the_set(path: Path, header: artefact.Header) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """The set's own scores by architecture and kind, the protocol, and the name of their work folder.

    Older versions wrote all of it into scores.json.
    """
    content = _json(path, EVALUATE)
    beside = path.with_name("scores-about.json")
    about = _json(beside, EVALUATE) if beside.exists() else content
    _require(path, EVALUATE, content, "scores")
    _require(beside, EVALUATE, about, "protocol", "set")
    if about["set"].get("sha256") != header.sha256:
        raise UserError(f"{path} is of another set than the one beside it; run `{EVALUATE}`")
    return content["scores"], about["protocol"], about.get("work")


def _of_snapshots(path: Path, header: artefact.Header) -> dict[str, Any]:
    """What snapshot-scores.json holds. UserError unless its last snapshot is the set."""
    maker = f"{EVALUATE} --snapshots"
    content = _json(path, maker)
    _require(path, maker, content, "last", "protocol", "set")
    _require(path, maker, content["last"], "scores")
    facts = ("dataset", "method", "ipc", "iteration", "seed", "network")
    differing = [name for name in facts if content["set"].get(name) != header.about[name]]
    if "fingerprint" not in content["set"]:
        raise UserError(f"{path} does not say the fingerprint of its set, as files of older versions; run `{maker}`")
    if content["set"]["fingerprint"] != header.fingerprint:
        differing.append("settings")
    if differing:
        raise UserError(
            f"{path} is of another set than the one beside it (other {', '.join(differing)}); run `{maker}`"
        )
    return content


def _by_rules(arch: str, last: Mapping[str, Any], by_rule: Mapping[str, Any]) -> Scores:
    rules = {rule: by_rule.get(name, {}).get(arch) for rule, name in RULES.items()}
    return Scores(last=_entries(last), **{rule: _entries(entries) for rule, entries in rules.items() if entries})


def _entries(entries: Mapping[str, Any]) -> dict[str, Score]:
    """The scores of an architecture by kind, without confusion."""
    names = [name for name in Score.model_fields if name != "iteration"]
    return {
        kind: Score(**{name: entry.get(name) for name in names}, iteration=entry.get("iteration"))
        for kind, entry in entries.items()
    }


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The parts of two protocols that differ, of those that both state."""
    return [name for name in ours if name in theirs and ours[name] != theirs[name]]


def _json(path: Path, maker: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); move it elsewhere and run `{maker}`") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no file of scores; move it elsewhere and run `{maker}`")
    return content


def _require(path: Path, maker: str, content: Mapping[str, Any], *names: str) -> None:
    """UserError unless a file of scores holds mappings of these names."""
    for name in names:
        if not isinstance(content.get(name), dict):
            raise UserError(f"{path} does not say `{name}`, as files of older versions; run `{maker}` again")
