"""Scores as tables for people, in characters that their terminal has."""

import io
import json
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from attcli import coding
from attcli.errors import one_line
from attcli.options import VARIANTS

if TYPE_CHECKING:
    from attcli.settings.comparison import Sides
    from attcli.settings.recipes import Recipe

WIDTH = 100
"""Columns that texts and tables are wrapped to."""

WIDEST = 200
"""Columns that a table of many columns may take; a narrower terminal wraps its lines."""

SOURCE_AT = 44
"""The column at which the sources of a recipe's values begin."""

MARK = "?"


def printable(text: str) -> str:
    """The text as stdout's encoding can write it: where it has no `±`, `+-` stands for it, and `?` for the rest.

    Nothing in it steers a terminal, whatever names it repeats.
    """
    encoding = sys.stdout.encoding or "utf-8"
    text = "\n".join(map(one_line, text.split("\n")))
    if not _has("±", encoding):
        text = text.replace("±", "+-")
    return text.encode(encoding, "replace").decode(encoding)


def _has(characters: str, encoding: str) -> bool:
    try:
        characters.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _text(table: Table, width: int = WIDTH) -> str:
    """A table as text, at most so wide; its lines are ASCII characters where stdout's encoding has no others."""
    if not _has("┏━┃─", sys.stdout.encoding or "utf-8"):
        table.box = box.ASCII
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    return printable(file.getvalue().rstrip("\n"))


def _plain(name: str) -> Text:
    """A name of somebody else in a table: a line as it is, in which nothing is markup."""
    return Text(one_line(name))


def _stripped(table: Table, width: int = WIDTH) -> str:
    """The same without blanks at the ends of lines and without empty lines around."""
    return "\n".join(line.rstrip() for line in _text(table, width).splitlines()).strip("\n")


def _cell(entry: dict[str, Any]) -> str:
    spread = f" ± {entry['sd']:.2f}" if entry["sd"] is not None else ""
    return printable(f"{entry['mean']:.2f}{spread} (n={entry['n']})")  # before the columns' widths are measured


def scores_table(report: dict[str, Any]) -> str:
    """Accuracy in percent, mean ± sample standard deviation: a row for each set, a column for each architecture."""
    about, protocol = report["set"], report["protocol"]
    named = f"{about['method']} {about['dataset']} ipc {about['ipc']}, iteration {about['iteration']}"
    title = _plain(named)
    if "bytes_per_class" in about:
        title.append(f"\n{coding.in_words(about)}")
    caption = _plain(f"accuracy in %, {protocol['epochs']} epochs, protocol {protocol['name']}")
    table = Table(title=title, caption=caption)
    table.add_column("trained on")
    for arch in report["scores"]:
        table.add_column(_plain(arch), justify="right")
    for kind in next(iter(report["scores"].values())):
        table.add_row(_plain(kind), *(_cell(row[kind]) for row in report["scores"].values()))
    return _text(table)


RULES = {
    "last": "last snapshot, tested",
    "selected": "best on validation, tested",
    "literature_maximum": "literature: maximum of tests",
}


def _scores(rule: dict[str, Any]) -> dict[str, Any]:
    """The scores of a rule, which are those of one snapshot, or of the best one for each network and kind."""
    scores: dict[str, Any] = rule.get("scores", rule)
    return scores


def snapshots_table(report: dict[str, Any]) -> str:
    """Accuracy of the snapshots by each rule, and where they were validated, of every one on the validation images."""
    columns = [(arch, kind) for arch, kinds in report["last"]["scores"].items() for kind in kinds]

    def empty(title: str, first: str) -> Table:
        table = Table(title=title, caption="accuracy in %")
        table.add_column(first)
        for arch, kind in columns:
            table.add_column(_plain(f"{arch} {kind}"), justify="right")
        return table

    rules = empty("snapshots on test images", "rule")
    for rule, text in RULES.items():
        if rule in report:
            rules.add_row(text, *(_cell(_scores(report[rule])[arch][kind]) for arch, kind in columns))
    if "snapshots" not in report:
        return _text(rules)
    validated = empty("snapshots on validation images", "iteration")
    for row in report["snapshots"]:
        validated.add_row(str(row["iteration"]), *(_cell(row["scores"][arch][kind]) for arch, kind in columns))
    return _text(validated) + "\n" + _text(rules)


def _learned(row: dict[str, Any], rule: str) -> str:
    """The means of the set and of its moving average by a rule; `-` where that rule was not applied."""
    entries = row[rule] or {}
    means = [f"{entries[kind]:.1f}" if kind in entries else "-" for kind in VARIANTS]
    return " / ".join(means) if entries else "-"


def records_table(rows: list[dict[str, Any]]) -> str:
    """A row for each record: how large its set is, and a ConvNet's accuracy by each rule, beside what was published."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    table = Table(
        title="records of runs",
        caption="accuracy of ConvNets on test images in %, as synthetic / ema; `selected` on validation images,\n"
        "`largest` on the test images themselves; published values are of their own protocols",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("name")
    table.add_column("dataset")
    numbers = ("images/\nclass", "bytes/\nclass", "float32\nipc", "iterations")
    for column in (*numbers, "last", "selected", "largest", "random", "published"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            _plain(row["name"]),
            _plain(row["dataset"]),
            number(row["images_per_class"], ",d"),
            number(row["bytes_per_class"], ",.0f"),
            number(row["float32_ipc"], ".2f"),
            number(row["iterations"], ",d"),
            *(_learned(row, rule) for rule in ("last", "selected", "largest")),
            number(row["random"], ".1f"),
            _plain(", ".join(f"{accuracy:.1f} {method}" for method, accuracy in row["published"].items()) or "-"),
        )
    return _text(table, WIDEST)


ABOUT_RECIPES = (
    "published: accuracy in % on the test images. unverified: values that could not be checked against the "
    "publication; `attcli recipes show NAME` says which. `attcli reproduce NAME --dry-run` estimates the time, memory "
    "and disk of a run, `attcli reproduce NAME` makes it."
)


def recipes_table(rows: list[dict[str, Any]]) -> str:
    """A row for each recipe: published accuracy, how many values are unverified, and what a run of it takes."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    table.add_column("published", justify="right", no_wrap=True)
    table.add_column("un-\nverified", justify="right")
    table.add_column("images", no_wrap=True)
    for column in ("experts\nx epochs", "iterations"):
        table.add_column(column, justify="right")
    for row in rows:
        needs = row["needs"]
        table.add_row(
            row["name"],
            _published(row["published"]),
            str(row["unverified"] or "-"),
            _images(needs["download"]),
            f"{needs['experts']} x {needs['epochs']}" if needs["experts"] else "-",
            f"{needs['iterations']:,}",
        )
    return f"{_stripped(table, WIDEST)}\n\n{textwrap.fill(ABOUT_RECIPES, WIDTH)}"


def _published(published: dict[str, Any] | None) -> str:
    if not published:
        return "-"
    spread = f" ± {published['sd']}" if published.get("sd") is not None else ""
    return printable(f"{published['accuracy']}{spread}{' ' + MARK if published.get('doubt') else ''}")


def _images(download: int | None) -> str:
    """Where a dataset's images come from, by the bytes that are downloaded."""
    if download is None:
        return "get them yourself"
    return f"download of {decimal(download, precision=0)}" if download else "come with attcli"


def sides_table(sides: "Sides", first: str, second: str) -> str:
    """A row for each setting that differs: on both sides its value, and below it where that is from."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("setting", no_wrap=True)
    for name in (first, second):
        table.add_column(_plain(name), overflow="fold")
    for setting, pair in sides.items():
        table.add_row(setting, *(Text(f"{json.dumps(side.value)}\n({one_line(side.source)})") for side in pair))
    return _stripped(table)


def recipe_text(recipe: "Recipe") -> str:
    """A recipe's values, each with its source; those that could not be checked are marked, and the mark explained."""
    lines = [f"{recipe.name}: {recipe.title}", ""]
    for key, entry in recipe.values.items():
        mark = MARK if entry.doubt else " "
        left = f"{mark} {key:26} {json.dumps(entry.value)}"
        source = entry.source.removesuffix("; unverified")  # as some sources say themselves
        said = f"{source}; unverified: {entry.doubt}" if entry.doubt else entry.source
        wrapped = textwrap.wrap(said, WIDTH - SOURCE_AT)
        if len(left) < SOURCE_AT:
            left = f"{left:{SOURCE_AT}}{wrapped.pop(0)}"
        lines += [left, *(" " * SOURCE_AT + rest for rest in wrapped)]
    if published := recipe.published:
        spread = f" ± {published['sd']}" if published.get("sd") is not None else ""
        doubt = f"; unverified: {published['doubt']}" if published.get("doubt") else ""
        text = f"published: {published['accuracy']}{spread} % on {published['network']} ({published['table']}{doubt})"
        lines += ["", *textwrap.wrap(text, WIDTH)]
    if any(entry.doubt for entry in recipe.values.values()):
        text = f"{MARK} unverified: could not be checked against the publication; the reason stands beside the source."
        lines += ["", *textwrap.wrap(text, WIDTH)]
    return printable("\n".join(lines))


def beside_published(report: dict[str, Any], published: dict[str, Any] | None) -> str:
    """A recipe's score in one line, beside the published one."""
    if not published:
        return "nothing is published for this recipe"
    scores = report["scores"].get(published["network"], {})
    ours = ", ".join(f"{kind} {_cell(scores[kind])}" for kind in VARIANTS if kind in scores)
    spread = f" ± {published['sd']}" if published.get("sd") is not None else ""
    doubt = f"; unverified: {published['doubt']}" if published.get("doubt") else ""
    return printable(
        f"{published['network']}: {ours}; published {published['accuracy']}{spread} ({published['table']}{doubt})\n"
        "published figures are maxima over tests during distillation; "
        "`attcli evaluate --snapshots --literature` takes such a maximum"
    )


def findings_text(findings: list[dict[str, Any]]) -> str:
    """What was found of the machine: a row for each check, remedies below what they mend, and a sum at the end."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("check")
    table.add_column("state")
    table.add_column("what was found", overflow="fold")
    for finding in findings:
        remedy = (
            f"\n{'hint' if finding['state'] == 'ok' else 'remedy'}: {finding['remedy']}" if finding["remedy"] else ""
        )
        table.add_row(finding["check"], finding["state"], Text(finding["says"] + remedy))
    states = [finding["state"] for finding in findings]
    counts = (
        f"{states.count(state)} {state}{'' if states.count(state) == 1 else 's'}" for state in ("problem", "note")
    )
    return f"{_stripped(table)}\n\n{', '.join(counts)}"
