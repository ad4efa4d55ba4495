"""Builds the image, tries it out, prints a table, and writes a record: `python -m checks.image`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from attcli.runtime import cpu_model
from checks.image.buildah import (
    IMAGE,
    SUITE,
    CannotCheckError,
    Container,
    Storage,
    configuration_of,
    install,
    make_base,
    registry_files,
)
from checks.image.trials import GROUP, USER, Trials

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "build" / "image"
BUILT = FOLDER / "built.json"
RECORDS = REPOSITORY / "benchmarks" / "records"
NEEDED_BYTES = 35e9
"""Free disk for an image with CUDA's libraries: vfs keeps a whole copy of each stage."""


def main() -> int:
    """Exit code 0 where all trials passed, 1 where one did not, 2 where the image could not be checked here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-image", default="", help="instead of one that debootstrap makes")
    parser.add_argument("--torch-from", default="", help="a folder or an index with torch's builds for CPUs")
    parser.add_argument("--record", default=f"{date.today()}-image-check", help="the record's name")
    parser.add_argument("--only", default="", help="of the trials, only those with these names, separated by commas")
    parser.add_argument("--short", action="store_true", help="a shorter pipeline of the digits, on a busy machine")
    parser.add_argument("--keep", action="store_true", help="keep the image, for --reuse")
    parser.add_argument("--reuse", action="store_true", help="no build: the kept image, with attcli put into it anew")
    asked = parser.parse_args()
    try:
        install("buildah", *([] if asked.base_image else ["debootstrap"]))
        FOLDER.mkdir(parents=True, exist_ok=True)
        storage = Storage(FOLDER, registry_files(FOLDER))
        built = json.loads(BUILT.read_text(encoding="utf-8")) if asked.reuse else build(storage, asked)
        record = {**built, **try_out(storage, asked)}
    except CannotCheckError as error:
        print(f"image-check: {error}", file=sys.stderr)
        return 2
    _print(record)
    path = RECORDS / f"{asked.record}{'-part' if asked.only or asked.short else ''}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(REPOSITORY)}; `make results` lists it")
    return 0 if all(trial["passed"] for trial in record["trials"]) else 1


def build(storage: Storage, asked: argparse.Namespace) -> dict[str, Any]:
    """Build the image; what the record says of that."""
    if not asked.torch_from and shutil.disk_usage(FOLDER).free < NEEDED_BYTES:
        raise CannotCheckError(f"{FOLDER} has less than {NEEDED_BYTES / 1e9:.0f} GB free; make room")
    begun = time.monotonic()
    base = asked.base_image or make_base(storage)
    with_base = time.monotonic()
    storage.build(REPOSITORY, *_arguments(base, asked.torch_from), FOLDER / "build.log")
    built = {
        "what": "the container image, built by buildah and tried out as a user that it does not know",
        "base": asked.base_image or f"Debian {SUITE}, by debootstrap",
        "torch_from": "elsewhere" if asked.torch_from else "the lock",
        "seconds": {"base image": round(with_base - begun, 1), "build": round(time.monotonic() - with_base, 1)},
    }
    BUILT.write_text(json.dumps(built), encoding="utf-8")
    return built


def try_out(storage: Storage, asked: argparse.Namespace) -> dict[str, Any]:
    """Run the trials; what the record says of them."""
    container = Container.begin(storage)
    volumes = FOLDER / "volumes"
    shutil.rmtree(volumes, ignore_errors=True)
    try:
        sizes = container.size()
        if asked.reuse:
            _put_package(container)
        trials = Trials(container, volumes, _checkout(volumes / "checkout"), asked.short)
        trials.run_all([name for name in asked.only.split(",") if name])
        versions = trials.run(["python", "-c", "import sys, torch; print(torch.__version__, sys.version.split()[0])"])
    finally:
        container.end()
        configuration = configuration_of(storage, IMAGE)
        if not asked.keep:
            storage.remove(IMAGE)
        shutil.rmtree(volumes, ignore_errors=True)
    torch, python = versions.split()[-2:]
    return {
        **sizes,
        "user": configuration["User"],
        "entrypoint": configuration["Entrypoint"],
        "package": "put into an image that was built before" if asked.reuse else "built with the image",
        "pipeline": "shorter" if asked.short else "as in params.yaml",
        "trials": trials.results,
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_of_the_last_15_minutes": round(os.getloadavg()[2], 1),
        "torch": torch,
        "python": python,
    }


def _arguments(base: str, torch_from: str) -> tuple[dict[str, str], dict[Path, str]]:
    """The build's arguments, and what is mounted for them."""
    arguments: dict[str, str] = {"BASE_IMAGE": base}
    extra: dict[Path, str] = {}
    if "://" in torch_from:
        arguments["TORCH_FROM"] = torch_from
    elif torch_from:
        arguments["TORCH_FROM"] = "/torch-wheels"
        extra[Path(torch_from).absolute()] = "/torch-wheels"
    return arguments, extra


def _put_package(container: Container) -> None:
    """Install the package of this checkout in the container, in place of the one that its image was built with."""
    folder = FOLDER / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(REPOSITORY)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (wheel,) = folder.glob("*.whl")
    options = ["-q", "--no-cache-dir", "--no-deps", "--no-index", "--force-reinstall"]
    install_it = ["python", "-m", "pip", "install", *options, f"/wheel/{wheel.name}"]
    command = container.command(install_it, "0:0", {folder: "/wheel"}, network=False)
    subprocess.run(command, check=True)


def _checkout(folder: Path) -> Path:
    """A clone of this checkout's last commit, which belongs to the user that uses it."""
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(REPOSITORY), str(folder)], check=True)
    for path, _, names in os.walk(folder):
        for name in (".", *names):
            os.lchown(os.path.join(path, name), USER, GROUP)
    return folder


def _print(record: dict[str, Any]) -> None:
    """The table of what was tried."""
    table = Table(title=f"image of {record['bytes'] / 1e9:.2f} GB, torch {record['torch']}")
    for heading in ("what", "passed", "seconds"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for name, seconds in record["seconds"].items():
        table.add_row(name, "yes", f"{seconds:.0f}")
    for trial in record["trials"]:
        table.add_row(trial["trial"], "yes" if trial["passed"] else "NO", f"{trial['seconds']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
