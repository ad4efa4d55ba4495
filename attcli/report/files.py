"""What a report is made of on the disk: the page, the data behind it, and its plots as PNG and SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from attcli.atomic import atomic
from attcli.errors import UserError, brief
from attcli.report.gather import facts
from attcli.report.looks import Drawn
from attcli.report.model import Facts
from attcli.settings import Resolved
from attcli.store.files import write_text

PAGE, COMPARISON, DATA = "report.html", "comparison.html", "report.json"

LARGEST = 2**26
"""Bytes of a file that may be the data of a report."""


def write(folder: Path, page: str, text: str, drawn: Mapping[str, Drawn], data: Facts | None = None) -> list[Path]:
    """Write a page, the data behind it and its plots, each whole or not at all; returns the files, the page first."""
    paths = []
    for name, plot in drawn.items():
        for kind, content in (("png", plot.png), ("svg", plot.light)):
            path = folder / f"{name}.{kind}"
            with atomic(path) as temporary:
                temporary.write_bytes(content)
            paths.append(path)
    if data is not None:
        write_text(folder / DATA, data.model_dump_json(indent=1) + "\n")
        paths.insert(0, folder / DATA)
    write_text(folder / page, text)
    return [folder / page, *paths]


def read(path: Path) -> Facts:
    """The data of a report from its file. UserError, in one line, where it holds none."""
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} is longer than 64 MiB, which no data of a report are; name another file")
    try:
        return Facts.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{path} holds no data of a report ({brief(where)}: {first['msg']}); make it anew with `attcli report`"
        ) from None


def of_run(run: Path, works: Sequence[Path], here: Resolved | None = None) -> Facts:
    """The data of a run that is named by its results folder, by the folder around that, or by the data of a report.

    UserError where it is none of these.
    """
    if run.is_file():
        return read(run)
    for folder in (run, run / "artifacts"):
        if (folder / "synthetic.h5").exists():
            return facts(folder, [*works, folder.parent / ".attcli"], here=here)
    for path in (run / DATA, run / "report" / DATA):
        if path.exists():
            return read(path)
    raise UserError(f"{run} holds no run; name a folder with a synthetic.h5, or a {DATA} that `attcli report` wrote")
