"""The flags that several commands share, in the groups that help shows them in."""

from pathlib import Path
from typing import Annotated, Any

import typer

from attcli.cli import completion

WHAT = "What is computed"
HOW = "Where and how it runs"


def switch(name: str, says: str, panel: str | None = None) -> Any:
    """A flag that takes no value."""
    return typer.Option(name, help=says, rich_help_panel=panel)


def whole_number(text: str) -> int:
    """The number in a flag's text."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number") from None


COUNT: dict[str, Any] = {"metavar": "N", "parser": whole_number}
"""What all flags that take a whole number have in common."""


def what(says: str, *names: str, **more: Any) -> Any:
    """A flag that decides what is computed."""
    return typer.Option(*names, help=says, rich_help_panel=WHAT, show_default=False, **more)


def how(says: str, **more: Any) -> Any:
    """A flag that decides where and how a command runs."""
    return typer.Option(help=says, rich_help_panel=HOW, show_default=False, **more)


Dataset = Annotated[
    str | None,
    what(
        "Dataset, such as digits; or folder, for images of your own in --data-dir. Default: cifar10, unless a "
        "params.yaml says otherwise (setting prepare.dataset).",
        metavar="NAME",
        autocompletion=completion.datasets,
    ),
]
Method = Annotated[
    str | None,
    what(
        "Method, such as att, or several joined as att+datm. Default: att, unless a params.yaml says otherwise "
        "(distill.method).",
        metavar="NAME",
        autocompletion=completion.methods,
    ),
]
Ipc = Annotated[
    int | None,
    what(
        "Size of the set: the bytes of N float32 images per class. For pixels in float32, N images per class. "
        "Default: 1, unless a params.yaml says otherwise (distill.ipc).",
        **COUNT,
    ),
]
ExpertCount = Annotated[int | None, what("Number of experts. By default the recipe decides (buffer.experts).", **COUNT)]
Epochs = Annotated[
    str | None,
    what("Epochs per expert, or auto: as many as matching reads, which is the default (buffer.epochs).", metavar="N"),
]
Iterations = Annotated[
    int | None,
    what("Number of distillation iterations. By default the recipe decides (distill.iterations).", **COUNT),
]


def of_the_set(says: str, **more: Any) -> Any:
    """A flag of `evaluate` that says how its set is distilled if there is none."""
    return what(f"{says} Only needed if there is no set yet. Default: what the set's file says.", **more)


MethodOfTheSet = Annotated[
    str | None,
    of_the_set(
        "Method, such as att, or several joined as att+datm.", metavar="NAME", autocompletion=completion.methods
    ),
]
DatasetOfTheSet = Annotated[
    str | None, of_the_set("Dataset, such as digits.", metavar="NAME", autocompletion=completion.datasets)
]
IpcOfTheSet = Annotated[int | None, of_the_set("Size of the set: the bytes of N float32 images per class.", **COUNT)]
IterationsOfTheSet = Annotated[int | None, of_the_set("Number of distillation iterations.", **COUNT)]
ExpertsOfTheSet = Annotated[int | None, of_the_set("Number of experts.", **COUNT)]
Seed = Annotated[
    int | None,
    what("Seed of this stage alone. Default: the seed of all stages, which is 0 (--set seed=N changes it).", **COUNT),
]
Set = Annotated[
    list[str] | None,
    what(
        "Give any setting a value, by the name that `attcli config` lists; may be repeated.",
        "--set",
        metavar="KEY=VALUE",
        autocompletion=completion.settings,
    ),
]
Params = Annotated[
    Path | None,
    what("Read settings from this file. Default: params.yaml in this folder, if it exists.", metavar="FILE"),
]
Device = Annotated[
    str | None,
    how(
        "Where to compute: cpu, cuda or cuda:N. Default: auto, which is a GPU if there is one (runtime.device).",
        metavar="NAME",
        autocompletion=completion.devices,
    ),
]
DataDir = Annotated[
    Path | None,
    how("Folder where datasets are read from or downloaded to. Default: data (runtime.data_dir).", metavar="FOLDER"),
]
Artifacts = Annotated[Path | None, how("Folder for results. Default: artifacts (runtime.artifacts).", metavar="FOLDER")]
TimeLimit = Annotated[
    str | None,
    how(
        "Save everything and stop after this time, for example 90s, 30m, 1h30m or 1:30:00, with exit code 75; "
        "run the same command again to continue. Default: no limit.",
        metavar="TIME",
    ),
]
DryRun = Annotated[
    bool,
    switch("--dry-run", "Show the plan and exit: what would run, what exists, and what the rest needs.", HOW),
]
NoInputs = Annotated[bool, typer.Option("--no-auto", hidden=True, help="Accepted for all stages alike; no effect.")]
NoAuto = Annotated[
    bool, switch("--no-auto", "Stop with an error if an earlier stage is missing. By default it is run first.", HOW)
]
Force = Annotated[
    bool, switch("--force", "Overwrite results that were made with other settings. By default they are kept.", HOW)
]
Fresh = Annotated[
    bool, switch("--fresh", "Start this stage from nothing. By default, attcli continues from saved work.", HOW)
]
AsJson = Annotated[bool, switch("--json", "Print JSON instead of text.")]
