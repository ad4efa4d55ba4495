"""All commands under one name. Imports no torch before a stage runs, so that --help answers at once."""

from collections.abc import Callable
from typing import Annotated

import typer

from attcli import __version__
from attcli.cli import bare, doctor, experts, init, inspection, interchange, recipes, records, report, stages, work
from attcli.cli.command import reporting
from attcli.cli.difference import DiffWithDefaults

RUN, EXCHANGE = "Commands that compute", "Commands that exchange files"
LOOK = "Commands that look, and keep order"

EXAMPLES = {
    "": (
        "attcli distill --dataset digits",
        "attcli evaluate --dataset digits",
        "attcli reproduce att/cifar10/ipc10 --dry-run",
    ),
    "prepare": (
        "attcli prepare --dataset digits",
        "attcli prepare --dataset folder --data-dir photos --set prepare.resolution=32",
        "attcli prepare --dataset cifar10 --set prepare.validation=5000",
    ),
    "buffer": (
        "attcli buffer --dataset digits",
        "attcli buffer --dataset cifar10 --experts 20 --time-limit 8h",
        "attcli buffer --dataset digits --set buffer.trainer=ftd --artifacts flat",
    ),
    "distill": (
        "attcli distill --dataset digits",
        "attcli distill --dataset cifar10 --ipc 10 --dry-run",
        "attcli distill --dataset digits --method att+uint8 --artifacts small",
    ),
    "evaluate": (
        "attcli evaluate --dataset digits --archs convnet,vgg11",
        "attcli evaluate my-set.h5 --json",
        "attcli evaluate --snapshots",
    ),
    "diagnose": (
        "attcli diagnose",
        "attcli diagnose --gammas 5,10 --every 100",
        "attcli diagnose other/history.h5 --out figures",
    ),
    "report": (
        "attcli report",
        "attcli report --artifacts other --open",
        "attcli report --out page --json",
    ),
    "compare": (
        "attcli compare artifacts other",
        "attcli compare first/report.json second/report.json",
        "attcli compare run-1 run-2 run-3 --out page --open",
    ),
    "reproduce": (
        "attcli reproduce att/digits/ipc1",
        "attcli reproduce att/cifar10/ipc10 --dry-run",
        "attcli reproduce mtt/digits/ipc1 --json",
    ),
    "import": (
        "attcli import buffers/replay_buffer_0.pt --dataset cifar10",
        "attcli import images_best.pt --dataset cifar10 --lr 0.01",
        "attcli import exported/safetensors",
    ),
    "export": (
        "attcli export --to png",
        "attcli export my-set.h5 --to safetensors --out shared",
        "attcli export --to released-experts",
    ),
    "push": (
        "attcli push me/digits-distilled",
        "attcli push me/digits-distilled --private",
        "attcli push me/digits-distilled --from shared",
    ),
    "config": (
        "attcli config distill --describe",
        "attcli config --dataset cifar10 --ipc 50 --yaml > my-params.yaml",
        "attcli config --method att+datm --diff recipe",
    ),
    "init": (
        "attcli init --dataset digits",
        "attcli init --dataset cifar10 --method att --ipc 10",
        "attcli init --dataset folder --data-dir images",
    ),
    "doctor": (
        "attcli doctor",
        "attcli doctor --quick --json",
        "attcli doctor --device cuda:0 --artifacts /scratch/run",
    ),
    "work": (
        "attcli work",
        "attcli work --stage distill --unused",
        "attcli work --prune --unused --older-than 30d",
    ),
    "recipes": (
        "attcli recipes --dataset cifar10 --method att",
        "attcli recipes show att/cifar10/ipc10",
        "attcli recipes use att/digits/ipc10",
    ),
    "experts": (
        "attcli experts compact --to small",
        "attcli experts compact other/experts --to small",
        "attcli experts compact --to small --waypoints 3",
    ),
    "experts compact": (
        "attcli experts compact --to small",
        "attcli experts compact other/experts --to small --waypoints 3",
        "attcli experts compact --to small --force",
    ),
    "recipes list": (
        "attcli recipes list",
        "attcli recipes list --dataset cifar10 --method att",
        "attcli recipes list --method datm --json",
    ),
    "recipes show": (
        "attcli recipes show att/digits/ipc1",
        "attcli recipes show mtt/cifar10/ipc10",
        "attcli recipes show att/cifar100/ipc10 --json",
    ),
    "recipes diff": (
        "attcli recipes diff att/cifar10/ipc1 att/cifar10/ipc10",
        "attcli recipes diff mtt/digits/ipc1 att/digits/ipc1",
        "attcli recipes diff ftd/cifar10/ipc10 datm/cifar10/ipc10 --json",
    ),
    "recipes validate": (
        "attcli recipes validate",
        "attcli recipes validate my-recipes.yaml",
        "attcli recipes validate recipes/*.yaml",
    ),
    "recipes use": (
        "attcli recipes use att/digits/ipc10",
        "attcli recipes use datm/cifar10/ipc50",
        "attcli recipes use found/synthetic.h5 --force",
    ),
    "records": (
        "attcli records",
        "attcli records add my-run",
        "attcli records benchmarks/records/runs --json",
    ),
    "records list": (
        "attcli records list",
        "attcli records list other-records",
        "attcli records list --json",
    ),
    "records add": (
        "attcli records add my-run",
        "attcli records add my-run --artifacts other --to other-records",
        'attcli records add my-run --note "a second seed" --force',
    ),
}
"""Lines for each command's help."""

CODES = (
    "Exit codes: 0 done, 2 something for you to fix, 75 stopped by --time-limit, SIGTERM or SIGUSR1, "
    "130 interrupted by Ctrl-C."
)


def _examples(command: str) -> str:
    return "\n".join(("Examples:", *EXAMPLES[command]))


app = typer.Typer(
    name="attcli",
    cls=bare.Group,
    help="Distil an image dataset into a tiny synthetic one for training networks.",
    epilog=f"{_examples('')}\n\n{CODES}",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
recipes_app = typer.Typer(cls=bare.Group, invoke_without_command=True)
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    RUN: (stages.prepare, stages.buffer, stages.distill, stages.evaluate, recipes.reproduce),
    EXCHANGE: (interchange.import_, interchange.export, interchange.push),
    LOOK: (init.init, doctor.doctor, report.report, report.compare, inspection.diagnose, inspection.config, work.work),
}
OF_RECIPES: dict[str, Callable[..., None]] = {
    "list": recipes.list_all,
    "show": recipes.show,
    "diff": recipes.diff,
    "validate": recipes.validate,
    "use": recipes.use,
}
CLASSES = {inspection.config: DiffWithDefaults}
for panel, functions in COMMANDS.items():
    for function in functions:
        name = function.__name__.rstrip("_")  # `import` is a word of Python's
        app.command(name, epilog=_examples(name), rich_help_panel=panel, cls=CLASSES.get(function, bare.Command))(
            function
        )
app.add_typer(recipes_app, name="recipes", epilog=_examples("recipes"), rich_help_panel=LOOK)
recipes_app.callback()(recipes.list_recipes)
for name, function in OF_RECIPES.items():
    recipes_app.command(name, epilog=_examples(f"recipes {name}"), cls=bare.Command)(function)

records_app = typer.Typer(cls=records.ListByDefault, help=records.HELP)
app.add_typer(records_app, name="records", epilog=_examples("records"), rich_help_panel=LOOK)
OF_RECORDS: dict[str, Callable[..., None]] = {"list": records.list_records, "add": records.add}
for name, function in OF_RECORDS.items():
    records_app.command(name, epilog=_examples(f"records {name}"), cls=bare.Command)(function)

experts_app = typer.Typer(cls=bare.Group, no_args_is_help=True, help=experts.HELP)
app.add_typer(experts_app, name="experts", epilog=_examples("experts"), rich_help_panel=EXCHANGE)
experts_app.command("compact", epilog=_examples("experts compact"), cls=bare.Command)(experts.compact)


def _version(value: bool) -> None:
    if value:
        with reporting():
            typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
