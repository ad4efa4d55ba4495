"""The container that a process is in, as far as it can be seen, and whether a folder outlives it. Free of torch."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

MARKS = {"/.dockerenv": "Docker", "/run/.containerenv": "Podman"}
VARIABLES = {
    "APPTAINER_CONTAINER": "Apptainer",
    "SINGULARITY_CONTAINER": "Singularity",
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
}
OWN_MARK = "container"
"""The variable that the project's image sets (so do Podman and systemd). Without it nothing is said of containers: many
people develop in one, whose folders they know."""

MOUNTS = Path("/proc/self/mountinfo")

WRITES_TO_HOST = ("Apptainer", "Singularity")
"""Containers whose current folder is one of the host."""


def kind(environ: Mapping[str, str] = os.environ) -> str | None:
    """What kind of container this is, in a word; None outside the project's image and its like."""
    if not environ.get(OWN_MARK):
        return None
    by_variable = next((name for variable, name in VARIABLES.items() if variable in environ), None)
    by_mark = next((name for path, name in MARKS.items() if Path(path).exists()), None)
    return by_variable or by_mark or "a container"


def vanishes(folder: Path, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written into an existing folder lies in a container alone and is lost with it."""
    inside = kind(environ)
    if inside is None or inside in WRITES_TO_HOST:
        return False
    real = folder.resolve()
    return not ({real, *real.parents} - {Path(real.root)}) & mount_points()


def mount_points() -> set[Path]:
    """Where something is mounted, as far as the system tells.

    `os.path.ismount` does not see a folder of the host that is on the same device as the container's own files.
    """
    points = set()
    with suppress(OSError):
        for line in MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            escaped = line.split(" ")[4]
            points.add(Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped)))
    return points
