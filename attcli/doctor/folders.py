"""The folders of results and kept work, DVC, and the container around them."""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.filesize import decimal

from attcli import container as containers
from attcli.doctor.finding import Finding
from attcli.errors import UserError
from attcli.settings import Settings
from attcli.store.files import nearest_existing, writable

LITTLE_DISK, TOO_LITTLE_DISK = 5e9, 0.1e9
"""Bytes below which large experts do not fit, and below which hardly anything does."""

DVC_SECONDS = 30.0


def results(settings: Settings) -> Finding:
    """Whether results and kept work can be written, and how much room there is for them."""
    folders = {name: getattr(settings.runtime, name) for name in ("artifacts", "work_dir")}
    for name, folder in folders.items():
        try:
            writable(folder, f"runtime.{name}")
        except UserError as error:
            return Finding("results", "problem", str(error), f"or make {folder} writable for you")
    free = {folder: shutil.disk_usage(nearest_existing(folder)).free for folder in folders.values()}
    says = ", ".join(f"{folder}: {decimal(left)} free" for folder, left in free.items())
    if min(free.values()) < TOO_LITTLE_DISK:
        return Finding(
            "results", "problem", says, "free some disk (`attcli work --prune --unused`), or use --artifacts elsewhere"
        )
    if len({os.stat(nearest_existing(folder)).st_dev for folder in folders.values()}) > 1:
        says += "; they are on two file systems, so results are kept twice"
        return Finding("results", "note", says, "set ATTCLI_WORK_DIR to a folder beside the results")
    if min(free.values()) < LITTLE_DISK:
        return Finding(
            "results", "note", says, "`--dry-run` says what a command needs; `attcli work` lists what to delete"
        )
    return Finding("results", "ok", says)


def kept_work(settings: Settings) -> Finding:
    """The size of the kept work, and how much of it nothing uses."""
    from attcli.stages import work
    from attcli.stages.run import Run

    kept = work.listed(Run(settings))
    unused = sum(entry.size for entry in kept if not entry.used)
    says = f"{settings.runtime.work_dir}: {decimal(sum(entry.size for entry in kept))} in {len(kept)} folders"
    if not unused:
        return Finding("kept work", "ok", says)
    remedy = "`attcli work --prune --unused` deletes it, if you will not go back to those settings"
    return Finding("kept work", "ok", f"{says}, of which the results do not use {decimal(unused)}", remedy)


def compiler_cache(settings: Settings) -> Finding:
    """The size of what torch keeps of compiled steps."""
    folder = _compiler_cache()
    return Finding("compiler cache", "ok", f"{folder}: {decimal(_size(folder))}; it can be deleted at any time")


def _compiler_cache() -> Path:
    if folder := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        return Path(folder)
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may know no name for its user
        user = f"uid_{os.getuid()}"
    return Path(tempfile.gettempdir()) / f"torchinductor_{user}"


def dvc(settings: Settings) -> Finding:
    """Whether DVC is installed, and whether this folder is one of its repositories."""
    pipeline = Path("dvc.yaml").exists()
    try:
        installed = version("dvc")
    except PackageNotFoundError:
        if pipeline:
            return Finding(
                "dvc", "note", "this folder has a dvc.yaml, but DVC is not installed", "pip install 'attcli[dvc]'"
            )
        return Finding("dvc", "ok", "not installed; attcli works without it")
    repository = next((p for p in (Path.cwd(), *Path.cwd().parents) if (p / ".dvc").is_dir()), None)
    if repository is None:
        remedy = "run `dvc init` in this folder (below a repository of git: `dvc init --subdir`; outside: `--no-scm`)"
        if pipeline:
            return Finding(
                "dvc", "note", f"{installed}; this folder has a dvc.yaml, but is no repository of DVC", remedy
            )
        return Finding("dvc", "ok", f"{installed}; this folder is no repository of DVC, and need not be one")
    cache = _dvc_cache(repository)
    pipelined = "dvc.yaml is there" if pipeline else "no dvc.yaml here; `attcli init` writes one"
    return Finding(
        "dvc", "ok", f"{installed}; repository {repository}; cache {cache}: {decimal(_size(cache))}; {pipelined}"
    )


def _dvc_cache(repository: Path) -> Path:
    """Where DVC keeps what it caches."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=DVC_SECONDS, cwd=repository, env=environment
        )
    except (subprocess.SubprocessError, OSError):
        return repository / ".dvc" / "cache"
    return Path(said.stdout.strip())


def container(settings: Settings) -> Finding:
    """Whether this is a container, and whether results outlive it."""
    kind = containers.kind()
    if kind is None:
        return Finding("container", "ok", "not in attcli's image")
    if not containers.vanishes(nearest_existing(settings.runtime.artifacts)):
        return Finding("container", "ok", f"{kind}; results are written to a mounted folder")
    remedy = 'mount a folder over the results, such as docker run -v "$PWD/results:/work"'
    return Finding("container", "note", f"{kind}; the results lie in the container and vanish with it", remedy)


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile count for nothing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue
    return total
