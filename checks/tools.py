"""The programs of requirements-tools.lock, in an environment of their own: they are no dependencies of attcli."""

import subprocess
import venv
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "build" / "tools"
LOCK = REPOSITORY / "requirements-tools.lock"


class NoRegistryError(Exception):
    """The programs are not installed, and no package registry is reached from here; the reason."""


def program(name: str, folder: Path = FOLDER, lock: Path = LOCK) -> Path:
    """The path of a program, installed with its hashes if it is not there. NoRegistryError where that does not work."""
    mark = folder / "lock"
    wanted = lock.read_text(encoding="utf-8")
    if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
        venv.create(folder, with_pip=True, clear=True)
        words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(lock)]
        done = subprocess.run([folder / "bin" / "python", *words], check=False, capture_output=True, text=True)
        if "DO NOT MATCH THE HASHES" in done.stderr:
            raise SystemExit(f"{lock.name}: a package has not the hash that is locked: {done.stderr.strip()}")
        if done.returncode:
            raise NoRegistryError(" ".join(done.stderr.strip().splitlines()[-1:]))
        mark.write_text(wanted, encoding="utf-8")
    return folder / "bin" / name
