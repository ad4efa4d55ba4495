"""The commands that take in what others made, and hand on what was made here: import, export, push."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attcli.cli import completion
from attcli.cli.command import given, refuse_missing, reporting, resolve_flags, run_stage
from attcli.cli.flags import Artifacts, DataDir, Dataset, Force, Ipc, Method, NoAuto, Params, Set, switch

if TYPE_CHECKING:
    from attcli.stages.run import Run

WRITTEN = ("ddranking", "huggingface", "png", "released", "released-experts", "safetensors")
"""The forms that attcli writes by itself, for the help: plugins, which add others, are only looked for when needed."""

MOST_PATHS = 10
"""Names of files that an export prints; more of them are counted."""


def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="What to import: replay_buffer_*.pt, a folder of these, images_*.pt, or what attcli export wrote.",
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="The form of what is imported. Default: the one that its names tell.",
            show_default=False,
            metavar="FORMAT",
            autocompletion=completion.formats,
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate to train with on a set that comes without one. Default: the set's own.",
            show_default=False,
            metavar="RATE",
        ),
    ] = None,
    dataset: Dataset = None,
    method: Method = None,
    ipc: Ipc = None,
    sets: Set = None,
    params: Params = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoAuto = False,
    force: Force = False,
) -> None:
    """Import experts or a distilled set of another program, to distil from them or to score it.

    Say which dataset and network they are of, unless their file says it itself: experts and sets of the released codes
    do not. The dataset is prepared first if it is missing. Nothing in an imported file is executed.
    """
    with reporting():
        flags = given(
            prepare__dataset=dataset,
            distill__method=method,
            distill__ipc=ipc,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )

        def act(pipeline: ModuleType, run: "Run") -> Any:
            from attcli.stages import importing

            return importing.run(run, paths, form, lr)

        typer.echo(run_stage("import", flags, sets, params, act=act, auto=not no_auto, force=force))


def export(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE",
            help="A set's or snapshot's file, or a folder of experts. Default: the results' own.",
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help=f"The form to write: {', '.join(WRITTEN[:-1])} or {WRITTEN[-1]}. There is no default.",
            show_default=False,
            metavar="FORMAT",
            autocompletion=completion.formats,
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write to. Default: exported/FORMAT.",
            show_default=False,
            metavar="FOLDER",
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help="The images to write where only one kind has a place: synthetic, or ema for their moving average. "
            "Default: synthetic.",
            show_default=False,
            metavar="NAME",
        ),
    ] = None,
    artifacts: Artifacts = None,
    force: Annotated[bool, switch("--force", "Overwrite files that are there. By default they are kept.")] = False,
) -> None:
    """Write the distilled set, or the experts, in the form of another program.

    What a form has no place for is said before anything is written.
    """
    with reporting():
        from attcli import interchange, progress
        from attcli.errors import UserError

        if not to:
            raise UserError(
                f"the form to write is missing; add --to and one of {', '.join(interchange.names(writes=True))}"
            )
        refuse_missing(source)
        runtime = resolve_flags(given(runtime__artifacts=artifacts), None, None).settings.runtime
        progress.configure(runtime.verbosity)
        own = "experts" if interchange.load(to).FORMAT.holds == "experts" else "synthetic.h5"
        from attcli.stages import exporting

        folder = out or Path("exported") / to
        paths = exporting.run(source or runtime.artifacts / own, to, folder, variant, force=force)
        for path in paths[:MOST_PATHS]:
            typer.echo(path)
        if len(paths) > MOST_PATHS:
            typer.echo(f"and {len(paths) - MOST_PATHS} more files in {folder}")


def push(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The dataset on the Hugging Face Hub, as owner/name.")],
    folder: Annotated[
        Path,
        typer.Option(
            "--from",
            help="Folder that attcli export --to huggingface wrote. Default: exported/huggingface.",
            show_default=False,
            metavar="FOLDER",
        ),
    ] = Path("exported/huggingface"),
    message: Annotated[
        str, typer.Option(help="Message of the commit. Default: a distilled set.", show_default=False, metavar="TEXT")
    ] = "A distilled set",
    private: Annotated[bool, switch("--private", "If the dataset is new, only you can see it.")] = False,
) -> None:
    """Upload an exported set to the Hugging Face Hub, where `attcli.load("hf://owner/name")` finds it.

    Log in first: `hf auth login`. The card is README.md in the folder; complete its licence before you upload.
    """
    with reporting():
        from attcli.errors import UserError
        from attcli.interchange import hub, huggingface

        if not huggingface.recognises(folder):
            raise UserError(
                f"{folder} holds no exported set; run `attcli export --to huggingface`, or name its folder with --from"
            )
        typer.echo(hub.pushed(folder, name, private=private, message=message))
