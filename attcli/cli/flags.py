"""The flags that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as `attcli config` names it.")
]
Params = Annotated[Path | None, typer.Option(help="Read this instead of ./params.yaml.", show_default=False)]
Dataset = Annotated[str | None, typer.Option(help="Dataset: prepare.dataset.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N: runtime.device.")]
DataDir = Annotated[Path | None, typer.Option(help="Where datasets lie: runtime.data_dir.")]
Artifacts = Annotated[Path | None, typer.Option(help="Where results are written: runtime.artifacts.")]
Seed = Annotated[int | None, typer.Option(help="Seed of this stage alone; --set seed=N sets all stages' seeds.")]
Ipc = Annotated[int | None, typer.Option(help="Images per class: distill.ipc.")]
Method = Annotated[str | None, typer.Option(help="Matching method: distill.method.")]
ExpertCount = Annotated[int | None, typer.Option(help="Number of experts: buffer.experts.")]
Iterations = Annotated[int | None, typer.Option(help="Updates, exactly: distill.iterations.")]
Epochs = Annotated[str | None, typer.Option(help="Epochs an expert, or auto: buffer.epochs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run, what is there and what disk it takes.")]
NoAuto = Annotated[bool, typer.Option("--no-auto", help="Do not make missing inputs.")]
TimeLimit = Annotated[
    str | None, typer.Option(help="Stop after 90s, 30m, 2h or 1:30:00, with everything saved (exit code 75).")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Compute this stage anew, ignoring kept work of it.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite results of other settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
