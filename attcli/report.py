"""Scores as tables for people."""

import io
from typing import Any

from rich.console import Console
from rich.table import Table


def _text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().rstrip("\n")


def _cell(entry: dict[str, Any]) -> str:
    spread = f" ± {entry['sd']:.2f}" if entry["sd"] is not None else ""
    return f"{entry['mean']:.2f}{spread} (n={entry['n']})"


def scores_table(report: dict[str, Any]) -> str:
    """Accuracy in percent, mean ± sample standard deviation: an architecture a row, a set a column."""
    about, protocol = report["set"], report["protocol"]
    title = f"{about['method']} {about['dataset']} ipc {about['ipc']}, iteration {about['iteration']}"
    table = Table(title=title, caption=f"accuracy in %, {protocol['epochs']} epochs, protocol {protocol['name']}")
    table.add_column("network")
    kinds = list(next(iter(report["scores"].values())))
    for kind in kinds:
        table.add_column(kind, justify="right")
    for arch, row in report["scores"].items():
        table.add_row(arch, *(_cell(row[kind]) for kind in kinds))
    return _text(table)


def snapshots_table(report: dict[str, Any]) -> str:
    """Accuracy of every snapshot on the validation images."""
    archs = [name for name in report["snapshots"][0] if name != "iteration"]
    table = Table(title="snapshots on validation images", caption="accuracy in %")
    table.add_column("iteration", justify="right")
    for arch in archs:
        for kind in ("synthetic", "ema"):
            table.add_column(f"{arch} {kind}", justify="right")
    for row in report["snapshots"]:
        cells = [_cell(row[arch][kind]) for arch in archs for kind in ("synthetic", "ema")]
        table.add_row(str(row["iteration"]), *cells)
    return _text(table)
