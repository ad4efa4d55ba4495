"""docs/reliability.md from its template and the record of the campaign."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
TEMPLATE = HERE / "reliability_template.md"
PAGE = REPOSITORY / "docs" / "reliability.md"
RECORDS = REPOSITORY / "benchmarks" / "records"
NAME = "*-faults.json"
"""What the campaign's records are called."""


PARTS = {
    "kills": "kills",
    "storms": "storms of signals",
    "failing": "disks that fail at a write",
    "full": "small file systems that fill up",
    "read-only": "read-only folders",
    "places": "damaged files",
    "met": "damaged files that a command meets",
    "not-finite": "experts that are not finite",
    "changed": "changed datasets",
    "two": "two processes",
    "namespaces": "PID namespaces",
    "clocks": "clocks",
    "memory": "full memory",
    "caches": "DVC caches",
}
"""The parts of the campaign, in words."""


MANY = 6
"""The summary counts the places of a fault where there are more."""


def newest(folder: Path = RECORDS) -> Path:
    """The newest record of a campaign."""
    return sorted(folder.glob(NAME))[-1]


def page(record: dict[str, Any], name: str) -> str:
    """The text of the page."""
    rows = record["rows"]
    broken = [row for row in rows if row["broken"]]
    tried, survived = (sum(row[key] for row in rows) for key in ("tried", "survived"))
    texts = {
        "[[summary]]": summary(rows),
        "[[table]]": table(rows),
        "[[survived]]": f"All {tried:,} trials" if tried == survived else f"Of {tried:,} trials, {survived:,}",
        "[[broken]]": _broken(broken),
        "[[missing]]": _missing(rows),
        "[[record]]": f"[{name}](../benchmarks/records/{name}.json)",
        "[[seed]]": str(record["seed"]),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for marker, value in texts.items():
        text = text.replace(marker, value)
    return text


def summary(rows: list[dict[str, Any]]) -> str:
    """For each fault where it was tried, and how often it was tried and survived in all."""
    lines = ["| fault | where | tried | survived |", "|---|---|---|---|"]
    for fault in dict.fromkeys(row["fault"] for row in rows):
        own = [row for row in rows if row["fault"] == fault]
        places = list(dict.fromkeys(row["where"] for row in own))
        where = ", ".join(places) if len(places) <= MANY else f"{len(places)} places"
        tried, survived = (sum(row[key] for row in own) for key in ("tried", "survived"))
        lines.append(f"| {fault} | {where} | {tried} | {survived} |")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """The faults, what each met, how often it was tried and survived, and how the trials ended."""
    lines = ["| fault | where | tried | survived | how it ended |", "|---|---|---|---|---|"]
    before, faults = "", list(dict.fromkeys(row["fault"] for row in rows))
    for row in sorted(rows, key=lambda row: faults.index(row["fault"])):
        fault = row["fault"] if row["fault"] != before else ""
        before = row["fault"]
        endings = "; ".join(f"{ending} ({count})" for ending, count in row["endings"].items())
        lines.append(
            f"| {fault} | {row['where']} | {row['tried']} | {row['survived']} | {endings} |".replace("|  |", "| |")
        )
    return "\n".join(lines)


def _missing(rows: list[dict[str, Any]]) -> str:
    """The parts that the record has no rows of, in a sentence."""
    missing = [words for part, words in PARTS.items() if part not in {row["part"] for row in rows}]
    if not missing:
        return ""
    return f"The campaign also tries these, which this record has no rows of yet: {', '.join(missing)}.\n\n"


def _broken(rows: list[dict[str, Any]]) -> str:
    """What did not survive, in a list."""
    if not rows:
        return "No promise was broken."
    listed = "\n".join(
        f"- {row['fault']}, {row['where']}: {len(row['broken'])} of {row['tried']} trials" for row in rows
    )
    return f"These did not survive:\n\n{listed}"


def write(record_file: Path) -> None:
    """Write the page from a record."""
    record = json.loads(record_file.read_text(encoding="utf-8"))
    PAGE.write_text(page(record, record_file.stem), encoding="utf-8")
