"""`python -m tests.faults.campaign`: tries every fault, writes the record and docs/reliability.md (`make faults`)."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from attcli import runtime
from attcli.store.times import commit
from tests.faults.campaign import caches, company, damage, disks, page, stops
from tests.faults.campaign.ground import Ground
from tests.faults.campaign.tally import Tally

Part = Callable[[Ground, int, int], Iterator[Tally]]
PARTS: dict[str, tuple[Part, int]] = {
    "kills": (stops.kills, 20),
    "storms": (stops.storms, 5),
    "failing": (disks.failing, 20),
    "full": (disks.full, 20),
    "read-only": (disks.read_only, 1),
    "places": (damage.places, 200),
    "met": (damage.met, 20),
    "not-finite": (damage.not_finite, 20),
    "changed": (damage.changed, 4),
    "two": (company.two, 10),
    "namespaces": (company.namespaces, 6),
    "clocks": (company.clocks, 4),
    "memory": (company.memory, 10),
    "caches": (caches.corrupted, 6),
}
"""The parts of the campaign in their order, each with how often it tries a fault in one place."""


def main(
    only: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(PARTS)}; default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Decides all places and moments.")] = 0,
    trials: Annotated[
        int | None, typer.Option(help="Trials of each fault in each place; default: the part's own.")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="The record's file; rows that are there are replaced.")] = None,
    write_page: Annotated[bool, typer.Option("--page/--no-page", help="Write docs/reliability.md too.")] = True,
) -> None:
    """Try the faults, and exit with 1 where one of them broke a promise. Needs Linux and, for small disks, root."""
    torch.set_num_threads(1)
    file = record or page.RECORDS / f"{time.strftime('%Y-%m-%d')}-faults.json"
    root = Path(tempfile.mkdtemp(prefix="attcli-faults-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    root.chmod(0o755)
    broken = 0
    try:
        ground = Ground(root / "ground")
        for name in only or PARTS:
            if name not in PARTS:
                raise typer.BadParameter(f"unknown part {name!r}; choose from {', '.join(PARTS)}")
            act, own = PARTS[name]
            for tally in act(ground, seed, trials or own):
                broken += len(tally.broken)
                keep(file, name, tally, trials or own, seed)
                typer.echo(f"{tally.fault}, {tally.where}: {tally.survived} of {tally.tried}, {tally.seconds:.0f} s")
                for line in tally.broken:
                    typer.echo(f"  {line}", err=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if write_page:
        page.write(file)
    sys.exit(1 if broken else 0)


def keep(file: Path, part: str, tally: Tally, trials: int, seed: int) -> None:
    """Put a row into the record, in the place of the one that was tried before."""
    content: dict[str, Any] = {"what": "faults tried and survived", "command": "make faults", "seed": seed, "rows": []}
    with suppress(FileNotFoundError):
        content = json.loads(file.read_text(encoding="utf-8"))
    content["machine"] = {"cpu": runtime.cpu_model(), "cores": runtime.cores(), "torch": torch.__version__}
    command = f"python -m tests.faults.campaign {part} --trials {trials} --seed {seed}"
    row = {"part": part, "command": command, **tally.as_record(), "commit": commit()}
    same = [i for i, old in enumerate(content["rows"]) if (old["fault"], old["where"]) == (row["fault"], row["where"])]
    if same:
        content["rows"][same[0]] = row
    else:
        content["rows"].append(row)
    order = list(PARTS)
    content["rows"].sort(key=lambda row: order.index(row["part"]))
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
