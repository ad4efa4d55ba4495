"""The wheel in an empty environment: `python -m tests.wheel FOLDER` (`make wheel`) builds, installs and tries it.

With `--torch-from SITE-PACKAGES`, torch and its CUDA libraries are taken from there instead of downloaded.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LARGE = ("torch", "torchgen", "functorch", "torchvision", "triton", "nvidia")
"""The packages, or the beginnings of their distributions' names, that take gigabytes."""

FEW = ("--experts", "2", "--iterations", "3", "--set", "evaluate.repeats=1", "--set", "evaluate.epochs=50")
COMMANDS = (
    ("--version",),
    ("recipes", "--dataset", "digits"),
    ("doctor", "--quick"),
    ("distill", "--dataset", "digits", *FEW[:4]),
    ("evaluate", "--dataset", "digits", *FEW),
    ("init", "--dataset", "digits"),
)


def build(folder: Path) -> Path:
    """The wheel, built twice from this repository. SystemExit where the two differ."""
    wheels = []
    for place in (folder, folder / "again"):
        command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(REPOSITORY)]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        wheels += place.glob("attcli-*.whl")
    first, second = wheels
    if first.read_bytes() != second.read_bytes():
        sys.exit(f"{first} and {second} differ, though they were built from the same files")
    print("built twice, with equal bytes", flush=True)
    return first


def environment(folder: Path, torch_from: Path | None) -> Path:
    """An empty virtual environment; its Python. With `torch_from` it sees the large packages of that folder."""
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    if torch_from is not None:
        lent = folder / "lent"
        lent.mkdir()
        for entry in torch_from.iterdir():
            if entry.name.split("-")[0].split("_")[0].split(".")[0] in LARGE:
                (lent / entry.name).symlink_to(entry)
        purelib = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        (Path(purelib) / "lent.pth").write_text(f"{lent}\n")
    return python


def main() -> None:
    """Build, install, and run some commands in an empty folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--torch-from", type=Path)
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    wheel = build(folder)
    python = environment(folder / "environment", asked.torch_from)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel], check=True)
    place = folder / "place"
    place.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    for words in COMMANDS:
        print("$ attcli", *words, flush=True)
        subprocess.run([python.parent / "attcli", *words], check=True, cwd=place, env=clean)


if __name__ == "__main__":
    main()
