"""The files of a project of one's own: a pipeline for DVC that needs nothing but an installed attcli."""

import os
import shlex
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from attcli.errors import UserError
from attcli.settings.choices import SCORES
from attcli.settings.layers import Resolved
from attcli.settings.models import Runtime, Settings

PIPELINE: dict[str, dict[str, Any]] = {
    "prepare": {
        "params": ["seed", "prepare"],
        "outs": ["artifacts/dataset.h5"],
    },
    "buffer": {
        "params": [
            *("seed", "prepare", "network", "buffer", "distill.expert_epochs", "distill.max_start_epoch"),
            *("distill.start_epochs", "distill.objective", "distill.student_start", "distill.init", "distill.labels"),
            *("distill.label_init", "distill.start_from"),
        ],
        "deps": ["artifacts/dataset.h5"],
        "outs": ["artifacts/experts"],
    },
    "distill": {
        "params": [
            *("seed", "prepare", "network", "buffer", "distill", "evaluate.augment", "evaluate.batch"),
            *("evaluate.epochs", "evaluate.momentum", "evaluate.protocol", "evaluate.weight_decay"),
        ],
        "deps": ["artifacts/dataset.h5", "artifacts/experts"],
        "outs": [
            *("artifacts/synthetic.h5", "artifacts/normaliser.h5", "artifacts/snapshots", "artifacts/history.h5"),
        ],
        "plots": [
            {"artifacts/history.csv": {"cache": False, "title": "loss", "x": "iteration", "y": "loss"}},
            {"artifacts/images.png": {"cache": False}},
        ],
    },
    "evaluate": {
        "params": ["seed", "prepare", "evaluate"],
        "deps": ["artifacts/dataset.h5", "artifacts/synthetic.h5", "artifacts/normaliser.h5"],
        "outs": ["artifacts/scores-about.json"],
        "metrics": [{"artifacts/scores.json": {"cache": False}}],
    },
}
"""What each stage reads and makes; the repository's own dvc.yaml says the same, and names attcli's modules besides."""

PLOTS = [{"matched step": {"x": {"artifacts/history.csv": "iteration"}, "y": {"artifacts/history.csv": "step"}}}]
"""The plots besides those of single files, of which DVC draws one each."""

HEADING = """\
# Written by `attcli init`. Each stage is a command of attcli; params.yaml holds all settings.
# DVC does not see which attcli is installed. After an update, run `dvc repro --force`: attcli computes only what the
# new version computes otherwise.
"""

IGNORED_BY_GIT = (
    "/artifacts/*",
    "!/artifacts/scores.json",
    "!/artifacts/history.csv",
    "!/artifacts/images.png",
    "/.attcli/",
    "/dvc_plots/",
)
IGNORED_BY_DVC = ("/.attcli",)


def pipeline(resolved: Resolved) -> str:
    """The text of dvc.yaml.

    A data folder that is not the default one stands in every command; a folder of images of one's own is also what
    `prepare` depends on, so that DVC sees when they change.
    """
    data_dir = resolved.settings.runtime.data_dir
    if resolved.settings.prepare.dataset == "folder" and Path.cwd().resolve().is_relative_to(data_dir.resolve()):
        raise UserError(
            f"the images lie in {data_dir}, which also holds this project: DVC can't have its results in what they "
            f"depend on; move the folders of images into a folder of their own, such as images, and name that as "
            f"--data-dir"
        )
    flag = data_flag(data_dir)
    stages = {}
    for name, parts in PIPELINE.items():
        deps = [str(data_dir)] if name == "prepare" and resolved.settings.prepare.dataset == "folder" else []
        deps += [*parts.get("deps", []), *_files(resolved.settings, name)]
        stages[name] = {"cmd": f"attcli {name} --no-auto{flag}", **parts, **({"deps": deps} if deps else {})}
    writer = YAML()
    writer.width = 2**30
    writer.indent(mapping=2, sequence=4, offset=2)
    text = StringIO()
    writer.dump({"stages": stages, "plots": PLOTS}, text)
    return HEADING + text.getvalue()


def data_flag(data_dir: Path) -> str:
    """The flag, after a space, that names a data folder; nothing for the default one."""
    return "" if data_dir == Runtime().data_dir else f" --data-dir {shlex.quote(str(data_dir))}"


def _files(settings: Settings, stage: str) -> list[str]:
    """The files that settings name and a stage reads: how hard images are, and the set that distilling begins from."""
    buffer, distill = settings.buffer, settings.distill
    judged = {"buffer": buffer.curriculum != "none", "distill": distill.init == "ranked"}.get(stage, False)
    files = [buffer.difficulty] if judged and buffer.difficulty not in SCORES else []
    return [*files, *([str(distill.start_from)] if stage == "distill" and distill.start_from else [])]


def ignored(folder: Path, resolved: Resolved) -> dict[str, list[str]]:
    """The lines that .gitignore and .dvcignore in a folder lack."""
    data_dir = resolved.settings.runtime.data_dir
    data = [f"/{data_dir}/"] if not data_dir.is_absolute() and resolved.settings.prepare.dataset != "folder" else []
    wanted = {".gitignore": [*IGNORED_BY_GIT, *data], ".dvcignore": [*IGNORED_BY_DVC, *data]}
    return {name: [line for line in lines if line not in _lines(folder / name)] for name, lines in wanted.items()}


def _lines(path: Path) -> list[str]:
    return [os.fsdecode(line.strip()) for line in path.read_bytes().splitlines()] if path.exists() else []
