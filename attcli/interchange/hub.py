"""The Hugging Face Hub: sets are read from there and written to there, through the package huggingface_hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from attcli.errors import UserError, optional
from attcli.interchange import details, huggingface, safetensors

PREFIX = "hf://"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")


def _package() -> Any:
    return optional("huggingface_hub", "hub", "sets on the Hugging Face Hub")


def name_of(address: str) -> str:
    """`owner/name` of `hf://owner/name`. UserError where it is none."""
    name = address.removeprefix(PREFIX)
    if not NAME.fullmatch(name):
        raise UserError(f"{address} is no address on the Hub; write it as {PREFIX}owner/name")
    return name


def downloaded(address: str) -> Path:
    """The folder where the set at `hf://owner/name` lies now: only the files of a set are downloaded, and kept."""
    name, package = name_of(address), _package()
    parts = [huggingface.CARD, safetensors.NAME, safetensors.NORMALISER]
    try:
        folder = Path(package.snapshot_download(name, repo_type="dataset", allow_patterns=parts))
    except Exception as error:  # the package raises errors of many others
        reason = details(error)
        raise UserError(
            f"{address} cannot be downloaded ({reason}); check the name, and that the Hub can be reached"
        ) from None
    if not (folder / safetensors.NAME).exists():
        raise UserError(f"{address} holds no {safetensors.NAME}; it is no set of attcli")
    return folder


def _check_inside(folder: Path) -> None:
    """UserError where a file that would be uploaded is a link to one that lies elsewhere, which may be private."""
    for part in huggingface.PARTS:
        file = folder / part
        if file.exists() and not file.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{file} is a link that leads out of {folder}; put the file itself in its place")


def pushed(folder: Path, name: str, *, private: bool, message: str) -> str:
    """Upload a folder that `attcli export --to huggingface` wrote, and return its address.

    The dataset `owner/name` is made if it is missing. UserError where the folder holds no set, or the Hub refuses.
    """
    _check_inside(folder)
    whole = huggingface.read(folder)  # a damaged set is not given to anybody
    address, package = name_of(name), _package()
    try:
        interface = package.HfApi()
        interface.create_repo(address, repo_type="dataset", private=private, exist_ok=True)
        parts = list(huggingface.PARTS)
        if not safetensors.normaliser_apart(whole):
            parts.remove(safetensors.NORMALISER)  # one that lies there is left of another set
        interface.upload_folder(
            repo_id=address, repo_type="dataset", folder_path=folder, allow_patterns=parts, commit_message=message
        )
    except Exception as error:  # the package raises errors of many others
        remedy = "log in with `hf auth login`, check the name, and that the Hub can be reached"
        raise UserError(f"{address} cannot be uploaded ({details(error)}); {remedy}") from None
    return f"{PREFIX}{address}"
