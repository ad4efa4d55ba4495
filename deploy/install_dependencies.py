"""Installs the locked dependencies of the image: `install_dependencies.py PIP LOCK [TORCH_FROM]`.

Without TORCH_FROM, all packages of the lock with their hashes. TORCH_FROM names where torch and torchvision come from
instead, so that the image can hold their builds for CPUs, which bring no CUDA libraries:

- the address of an index that has them: in the versions of the lock;
- a folder of wheels: in the versions that lie there.

Their wheels are then not compared with hashes. All other packages are.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

TORCH = ("torch", "torchvision")
FOR_CUDA = re.compile(r"nvidia-.*|cuda-.*|triton")
"""Packages that only a torch with CUDA asks for."""


def entries(lock: str) -> dict[str, str]:
    """The lock's text for each package, by the package's name."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        start = re.match(r"([A-Za-z0-9._-]+)==", line)
        if start:
            name = start[1]
        if name:
            found[name] = found.get(name, "") + line
    return found


def without_torch(packages: dict[str, str]) -> str:
    """The lock of all other packages."""
    return "".join(text for name, text in packages.items() if name not in TORCH and not FOR_CUDA.fullmatch(name))


def versions_of_torch(packages: dict[str, str]) -> list[str]:
    """The locked versions of torch's packages, as requirements."""
    return [packages[name].split()[0] for name in TORCH]


def commands(pip: str, lock: Path, torch_from: str, rest: Path) -> list[list[str]]:
    """The calls of pip. `rest` is the lock without torch's packages, which has to be written first."""
    install = [pip, "install"]
    if not torch_from:
        return [[*install, "--require-hashes", "-r", str(lock)]]
    packages = entries(lock.read_text(encoding="utf-8"))
    if "://" in torch_from:
        torch = ["--index-url", torch_from, *versions_of_torch(packages)]
    else:
        torch = ["--no-index", "--find-links", torch_from, *TORCH]
    return [[*install, "--require-hashes", "--no-deps", "-r", str(rest)], [*install, "--no-deps", *torch]]


def main() -> None:
    """Install, and end with pip's exit code where it fails."""
    pip, lock, torch_from = sys.argv[1], Path(sys.argv[2]), (sys.argv[3:] or [""])[0]
    with tempfile.TemporaryDirectory() as folder:
        rest = Path(folder) / "rest.lock"
        rest.write_text(without_torch(entries(lock.read_text(encoding="utf-8"))), encoding="utf-8")
        for command in commands(pip, lock, torch_from, rest):
            code = subprocess.run(command, check=False).returncode
            if code:
                sys.exit(code)


if __name__ == "__main__":
    main()
