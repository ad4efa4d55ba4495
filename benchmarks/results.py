"""`python -m benchmarks.results`: docs/results.md from its template and the records.

Markers as `[[methods]]` in the template stand for a table or a number of the records.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import results_tables as tables

FOLDER = Path(__file__).parent
TEMPLATE = FOLDER / "results_template.md"
RECORDS = FOLDER / "records"
PAGE = FOLDER.parent / "docs" / "results.md"

LISTED = {
    "-methods": "`python -m benchmarks.matrix`, above",
    "-baselines": "`python -m benchmarks.baselines`, above",
    "-stability": "`python -m benchmarks.stability`, above",
    "-amp": "`python -m benchmarks.amp`, above",
    "-phases": "`python -m benchmarks.phases`, above",
    "-field-": "`python -m benchmarks.field`, above",
    "-benchmarks-": "`python -m benchmarks`, in [Time and memory](performance.md)",
    "-versus-": "`python -m benchmarks.versus`, in [Time and memory](performance.md)",
    "-prepare-": "`python -m benchmarks.prepare`, in [Time and memory](performance.md)",
    "-zca-": "`python -m benchmarks.zca`, in [Time and memory](performance.md)",
    "-recipes-": "`python -m benchmarks.recipes`",
    "-trials-": "`python -m benchmarks.trials`, above",
    "-coded": "`python -m benchmarks.coded`, above",
    "-image-check": "`make image-check`, in [containers](running/containers.md)",
    "-faults": "`make faults`, in [reliability.md](reliability.md)",
    "-fuzz-": "`make fuzz`, in [SECURITY.md](../SECURITY.md)",
    "-own-images": "in [your own images](tutorials/own-images.md)",
    "-ranks-": "`python -m benchmarks.ranks`, in [several processes](running/several.md)",
    "-attempts": "`attcli distill` and `attcli evaluate` with the settings in it, above",
    "-other-networks": "`attcli evaluate` with the settings in it, above",
    "-patience-": "`python -m benchmarks.patience`, in [Time and memory](performance.md)",
    "-gpu-steps": "`python -m benchmarks.steps`, in [Time and memory](performance.md)",
    "-steps-cpu": "`python -m benchmarks.steps`, in [Time and memory](performance.md)",
    "-gpu-compiled": "by hand, in [Time and memory](performance.md)",
    "-gpu": "`python -m benchmarks.gpu`, in [Time and memory](performance.md)",
    "-repro-": "in [Time and memory](performance.md)",
}
"""What a record is from and where it is told, by a part of its name."""


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """All records but those of runs, by the name of their file, in its order."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def page(records_folder: Path = RECORDS) -> str:
    """The text of docs/results.md. KeyError where the template has a marker that stands for nothing."""
    records = read(records_folder)
    texts = {
        "methods": tables.methods(records),
        "baselines": tables.baselines(records),
        "runs": tables.runs(records, records_folder / "runs"),
        "amp": tables.amp(records),
        **tables.phases(records),
        "trials": tables.trials(records),
        "coded": tables.coded(records),
        "coded tuning": tables.coded_tuning(records),
        "records": _listed(records, records_folder / "runs"),
        **tables.field(records),
        **tables.stability(records),
    }
    return re.sub(r"\[\[([a-z0-9 -]+)\]\]", lambda marker: texts[marker[1]], TEMPLATE.read_text(encoding="utf-8"))


def _listed(records: dict[str, dict[str, Any]], runs: Path) -> str:
    """A line for each record: its file, what it is, and where it is told."""
    lines = []
    for name, record in records.items():
        place = next((told for part, told in LISTED.items() if part in name), "")
        said = "; ".join(filter(None, (record.get("what", ""), place))) or "a set with its scores, above"
        lines.append(f"- [{name}](../benchmarks/records/{name}.json): {said}")
    for path in sorted(runs.glob("*.json")):
        lines.append(f"- [runs/{path.stem}](../benchmarks/records/runs/{path.name}): a run, above")
    return "\n".join(lines)


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where the page is out of date.")] = False,
) -> None:
    """Write docs/results.md."""
    text = page()
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        typer.echo("docs/results.md is not what its template and the records say; run `make results`", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
