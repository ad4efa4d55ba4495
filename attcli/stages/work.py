"""What is kept in the work folder, in words; and its removal."""

import json
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attcli.errors import UserError
from attcli.stages.run import Run
from attcli.store import artefact, experts, states
from attcli.store.files import locked

NAME = re.compile(
    r"(prepare|difficulty|buffer|distill|evaluate|baselines)-([0-9a-f]{16})((?:\.(?:replaced|deleting)(?:-\d+)?)?)"
)


TRAININGS = {
    "baselines": "trainings on all training images",
    "difficulty": "networks' judgements of how hard images are",
}


@dataclass(frozen=True)
class Kept:
    """The kept work of one stage and identity: what it is in words, bytes, seconds since it changed."""

    folder: Path
    stage: str
    fingerprint: str
    what: str
    size: int
    age: float
    used: bool
    """Whether the results link to it, so that deleting it frees less than its size."""


def listed(run: Run) -> list[Kept]:
    """All kept work, newest first."""
    root = run.settings.runtime.work_dir
    folders = [folder for folder in root.glob("*") if folder.is_dir() and NAME.fullmatch(folder.name)]
    stats = {folder: _stats(folder) for folder in folders}
    links = Counter((stat.st_dev, stat.st_ino) for of_folder in stats.values() for stat in of_folder)
    return sorted((_kept(folder, stats[folder], links) for folder in folders), key=lambda kept: kept.age)


def _stats(folder: Path) -> list[os.stat_result]:
    """What the system says of each file of a folder."""
    stats = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another process may just have renamed or deleted it
            if path.is_file() and path.name != ".lock":
                stats.append(path.stat())
    return stats


def _kept(folder: Path, stats: list[os.stat_result], links: Mapping[tuple[int, int], int]) -> Kept:
    """The kept work of a folder. links: how often each file (device, inode) is met in all of them."""
    match = NAME.fullmatch(folder.name)
    assert match is not None
    stage, fingerprint, aside = match.groups()
    what = _in_words(stage, folder)
    return Kept(
        folder=folder,
        stage=stage,
        fingerprint=fingerprint,
        what=f"{what} (set aside)" if aside else what,
        size=sum(stat.st_size for stat in stats),
        age=time.time() - max((stat.st_mtime for stat in stats), default=folder.stat().st_mtime),
        used=any(stat.st_nlink > links[stat.st_dev, stat.st_ino] for stat in stats),
    )


def _headers(folder: Path) -> Iterator[artefact.Header]:
    kinds = {"dataset.h5": "dataset", "latest.h5": states.KIND}
    for path in sorted(folder.rglob("*.h5"), reverse=True):
        kind = kinds.get(path.name, "expert" if path.name.startswith("expert") else states.KIND)
        try:
            yield artefact.header(path, kind, "")
        except UserError:
            continue


def _in_words(stage: str, folder: Path) -> str:
    """What a folder holds, as far as its files tell."""
    if stage == "evaluate":
        results = folder / "results.jsonl"
        count = results.read_bytes().count(b"\n") if results.exists() else 0
        return f"{count} scored networks"
    if stage in TRAININGS:
        return f"{len(list(folder.glob('*.npz')))} {TRAININGS[stage]}"
    header = next(_headers(folder), None)
    if stage == "buffer":
        files = {path.with_suffix("") for pattern in ("*.h5", "*.jsonl") for path in folder.glob(f"expert-{pattern}")}
        epochs = sum(_epochs(path.with_suffix(".h5")) for path in files)
        told = f"{header.about['dataset']}, {_network(header.about)}, " if header else ""
        return f"{told}{len(files)} experts, {epochs} epochs in all"
    if header is None:
        return "nothing finished"
    about: dict[str, Any] = header.about
    if stage == "prepare":
        return f"{about['dataset']}, {about['normaliser']['kind']}"
    done = max((states.iteration_of(path) for path in states.snapshots(folder / "snapshots")), default=0)
    done = max(done, about["iteration"])
    return f"{about['method']} {about['dataset']} ipc {about['ipc']}, seed {about['seed']}, {done} iterations"


def _epochs(file: Path) -> int:
    try:
        return experts.kept_epochs(file)
    except UserError:
        return 0


def _network(about: dict[str, Any]) -> str:
    return str(about["network"]["arch"])


def chosen(
    works: list[Kept], prefixes: list[str], older_than: float | None, unused: bool, stage: str | None
) -> list[Kept]:
    """The kept work that all given conditions name: all of it without any. UserError where a prefix names nothing."""
    for prefix in prefixes:
        if not prefix.strip():
            raise UserError("an empty fingerprint would name all kept work; name one that `attcli work` lists")
        if not any(kept.fingerprint.startswith(prefix) for kept in works):
            raise UserError(f"no kept work has a fingerprint that begins with {prefix}; see `attcli work`")
    return [
        kept
        for kept in works
        if (not prefixes or any(kept.fingerprint.startswith(prefix) for prefix in prefixes))
        and (older_than is None or kept.age > older_than)
        and (not unused or not kept.used)
        and stage in (None, kept.stage)
    ]


def prune(works: list[Kept]) -> tuple[list[Kept], list[Kept]]:
    """Delete kept work; what was deleted, and what another process is at work on, which stays."""
    deleted, held = [], []
    for kept in works:
        try:
            with locked(kept.folder):
                gone = kept.folder.with_name(f"{kept.stage}-{kept.fingerprint}.deleting-{secrets.randbits(48)}")
                kept.folder.rename(gone)  # at once, so that nobody begins to work in what is being deleted
                shutil.rmtree(gone)  # with its lock, before that is released to who waits for it
        except UserError:
            held.append(kept)
        else:
            deleted.append(kept)
    return deleted, held


def as_json(works: list[Kept]) -> str:
    """The list for programs: sizes in bytes, ages in seconds."""
    return json.dumps([{**vars(kept), "folder": str(kept.folder), "age": round(kept.age)} for kept in works], indent=2)
