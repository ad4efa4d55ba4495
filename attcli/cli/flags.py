"""The flags that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as `attcli config` names it.")
]
Params = Annotated[Path | None, typer.Option(help="Read this instead of ./params.yaml.", show_default=False)]
Dataset = Annotated[str | None, typer.Option(help="Dataset name [setting: prepare.dataset].")]
Device = Annotated[
    str | None, typer.Option(help="Where to compute: auto, cpu, cuda or cuda:N [setting: runtime.device].")
]
DataDir = Annotated[Path | None, typer.Option(help="Folder where datasets are stored [setting: runtime.data_dir].")]
Artifacts = Annotated[Path | None, typer.Option(help="Folder for results [setting: runtime.artifacts].")]
Seed = Annotated[int | None, typer.Option(help="Seed of this stage alone; --set seed=N sets all stages' seeds.")]
Ipc = Annotated[int | None, typer.Option(help="Images per class [setting: distill.ipc].")]
Method = Annotated[
    str | None, typer.Option(help="Method, such as att, or several as att+datm [setting: distill.method].")
]
ExpertCount = Annotated[
    int | None, typer.Option(help="Number of experts; the recipe decides by default [setting: buffer.experts].")
]
Iterations = Annotated[
    int | None,
    typer.Option(
        help="Number of distillation iterations; the recipe decides by default [setting: distill.iterations]."
    ),
]
Epochs = Annotated[str | None, typer.Option(help="Epochs per expert, or auto [setting: buffer.epochs].")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show the plan and exit: what would run, what exists, and how much disk it needs."),
]
NoAuto = Annotated[bool, typer.Option("--no-auto", help="Refuse instead of making missing inputs.")]
TimeLimit = Annotated[
    str | None, typer.Option(help="Stop after 90s, 30m, 2h or 1:30:00, with everything saved (exit code 75).")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Compute this stage anew, ignoring kept work of it.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite results that were made with other settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
