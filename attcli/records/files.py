"""Records as files: JSON, one for each run, named by the record's name."""

import re
from pathlib import Path

from pydantic import ValidationError

from attcli.errors import UserError, brief
from attcli.records.model import NAME, Record
from attcli.store.files import write_text

LARGEST = 2**24
"""Bytes of a file that may be a record."""


def path_of(folder: Path, name: str) -> Path:
    """Where the record of that name is. UserError where it is no name."""
    if not re.fullmatch(NAME, name):
        raise UserError(f"{brief(name)} names no record; use letters, digits and the characters . _ + - alone")
    return folder / f"{name}.json"


def write(folder: Path, record: Record, *, force: bool = False) -> Path:
    """Write a record; returns its file. UserError where one of that name is there, unless `force` replaces it."""
    from attcli.scoring.summary import as_json

    path = path_of(folder, record.name)
    if path.exists() and not force:
        raise UserError(f"{path} is there already; choose another name, or replace it with --force")
    write_text(path, as_json(record.model_dump(mode="json")) + "\n")
    return path


def read(path: Path) -> Record:
    """The record in a file. UserError, in one line, where it holds none."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is longer than 16 MiB, which no record is; take it out of the folder")
        record = Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{path} is no record ({where}: {first['msg']}); fix it, or make it anew with `attcli records add`"
        ) from None
    if record.name != path.stem:
        raise UserError(f"{path} holds a record named {record.name}; rename one of them, so that they agree")
    return record


def read_all(folder: Path) -> list[Record]:
    """All records of a folder, by dataset, size and name. UserError where there are none, or one cannot be read."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; `attcli records add NAME` makes a record of the results")
    records = [read(path) for path in sorted(folder.glob("*.json"))]
    if not records:
        raise UserError(f"{folder} holds no records; `attcli records add NAME --to {folder}` makes one of the results")
    return sorted(records, key=lambda record: (record.dataset, record.ipc, record.name))
