"""Images without a Docker engine: buildah, with chroot isolation, in a storage of its own.

Needs root on a Debian-like system. What it installs: buildah, and debootstrap for a base image.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
"""The Debian that the base image is made of, as NVIDIA's cannot be fetched everywhere."""

BASE = "localhost/attcli-check-base"
IMAGE = "localhost/attcli-check"
CERTIFICATES = "/run/check-ca.crt"
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")


class CannotCheckError(Exception):
    """What keeps the image from being checked here: one line with what to do."""


@dataclass(frozen=True)
class Storage:
    """A folder for all that buildah keeps; `volumes` are the host's files that every build sees."""

    folder: Path
    volumes: Mapping[Path, str]

    def command(self, *words: str) -> list[str]:
        """A call of buildah on this storage."""
        root, runroot = self.folder / "storage", self.folder / "run"
        return ["buildah", "--root", str(root), "--runroot", str(runroot), "--storage-driver", "vfs", *words]

    def ask(self, *words: str) -> str:
        """What such a call prints. CalledProcessError where it fails."""
        return subprocess.run(self.command(*words), check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def build(self, context: Path, arguments: Mapping[str, str], extra: Mapping[Path, str], log: Path) -> None:
        """Build IMAGE from the context's Dockerfile; what the build prints goes to `log`."""
        words = ["build", "--isolation", "chroot", "--tag", IMAGE]
        for name, value in arguments.items():
            words += ["--build-arg", f"{name}={value}"]
        for path, inside in {**self.volumes, **extra}.items():
            words += ["--volume", f"{path}:{inside}:ro"]
        with log.open("w") as file:
            done = subprocess.run(self.command(*words, str(context)), check=False, stdout=file, stderr=file)
        if done.returncode:
            last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
            raise CannotCheckError(f"the image could not be built ({' '.join(last)}); {log} tells more")

    def remove(self, *names: str) -> None:
        """Remove containers and images, those that exist."""
        for name in names:
            for kind in ("rm", "rmi"):
                subprocess.run(self.command(kind, name), check=False, capture_output=True)


@dataclass(frozen=True)
class Container:
    """A container of IMAGE, in which commands run one after the other."""

    storage: Storage
    name: str

    @classmethod
    def begin(cls, storage: Storage) -> "Container":
        """A new container."""
        return cls(storage, storage.ask("from", "--pull-never", IMAGE))

    def command(self, words: Sequence[str], user: str, volumes: Mapping[Path, str], *, network: bool) -> list[str]:
        """The call that runs `words` in it, as `docker run` would with the same user and volumes."""
        options = ["--isolation", "chroot", "--user", user]
        for path, inside in volumes.items():
            options += ["--volume", f"{path}:{inside}"]
        without = [] if network else ["unshare", "--net"]
        return [*without, *self.storage.command("run", *options, self.name, "--", *words)]

    def size(self) -> dict[str, int]:
        """Bytes of all files, and of the Python packages among them."""
        root = Path(self.storage.ask("mount", self.name))
        sizes = {"bytes": _bytes(root), "bytes_of_python_packages": _bytes(root / "opt" / "attcli")}
        self.storage.ask("umount", self.name)
        return sizes

    def end(self) -> None:
        """Remove it."""
        self.storage.remove(self.name)


def _bytes(folder: Path) -> int:
    said = subprocess.run(["du", "-s", "-B1", "-x", str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    return int(said.stdout.split()[0])


def install(*programs: str) -> None:
    """Install programs that are missing, by apt-get. CannotCheckError where that does not work."""
    missing = [program for program in programs if shutil.which(program) is None]
    if os.geteuid() != 0:
        raise CannotCheckError("image-check needs root, for chroot; run it as root, or in a virtual machine")
    if not missing:
        return
    remedy = f"install {' and '.join(missing)} yourself"
    if shutil.which("apt-get") is None:
        raise CannotCheckError(f"{' and '.join(missing)} missing, and no apt-get to install them; {remedy}")
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", *words], check=False, capture_output=True, text=True)
        if done.returncode:
            last = " ".join(done.stderr.strip().splitlines()[-1:])
            raise CannotCheckError(f"apt-get could not install {' and '.join(missing)} ({last}); {remedy}")


def make_base(storage: Storage) -> str:
    """The name of a base image of Debian, made by debootstrap where it is not there yet."""
    if BASE in storage.ask("images", "--format", "{{.Name}}"):
        return BASE
    root = storage.folder / "base"
    shutil.rmtree(root, ignore_errors=True)
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", SUITE, str(root)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        last = " ".join(done.stdout.strip().splitlines()[-1:])
        raise CannotCheckError(f"no base image: debootstrap failed ({last}); name one: make image-check BASE_IMAGE=…")
    name = storage.ask("from", "scratch")
    storage.ask("add", "-q", name, str(root), "/")
    storage.ask("commit", "-q", name, BASE)
    storage.ask("rm", name)
    shutil.rmtree(root)
    return BASE


def registry_files(folder: Path) -> dict[Path, str]:
    """Files by which pip in a build reaches the registry that pip reaches here, and where they are to be in the build.

    They are mounted while the image is built, so that nothing of them gets into it.
    """
    words = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    values: dict[str, str] = {}
    for line in said.stdout.splitlines():
        name, _, value = line.partition("=")
        values[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    kept = {key: value for key in PIP_KEYS if (value := values.get(key)) and not value.startswith("file:")}
    volumes = {}
    if certificates := values.get("cert"):
        kept["cert"] = CERTIFICATES
        volumes[Path(certificates)] = CERTIFICATES
    if kept:
        file = folder / "pip.conf"
        file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in kept.items()))
        volumes[file] = "/etc/pip.conf"
    return volumes


def configuration_of(storage: Storage, image: str) -> dict[str, object]:
    """The image's configuration, as OCI has it: user, folder, entry point, environment, labels."""
    inspected = json.loads(storage.ask("inspect", "--type", "image", image))
    return dict(inspected["OCIv1"]["config"])
