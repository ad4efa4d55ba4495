"""The commands that run a stage: prepare, buffer, distill, evaluate."""

import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attcli.cli import completion
from attcli.cli.command import given, refuse_json, refuse_missing, reporting, run_stage, seconds
from attcli.cli.flags import (
    COUNT,
    Artifacts,
    AsJson,
    DataDir,
    Dataset,
    DatasetOfTheSet,
    Device,
    DryRun,
    Epochs,
    ExpertCount,
    ExpertsOfTheSet,
    Force,
    Fresh,
    Ipc,
    IpcOfTheSet,
    Iterations,
    IterationsOfTheSet,
    Method,
    MethodOfTheSet,
    NoAuto,
    NoInputs,
    Params,
    Seed,
    Set,
    TimeLimit,
    switch,
    what,
)
from attcli.errors import UserError

if TYPE_CHECKING:
    from attcli.stages.run import Run


def prepare(
    dataset: Dataset = None,
    limit_per_class: Annotated[
        int | None,
        what("Keep only so many training images of each class. Default: all (prepare.limit_per_class).", **COUNT),
    ] = None,
    seed: Seed = None,
    sets: Set = None,
    params: Params = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoInputs = False,
    dry_run: DryRun = False,
    force: Force = False,
    fresh: Fresh = False,
) -> None:
    """Read a dataset, split it, fit its normalisation (mean and deviation, or ZCA), and write dataset.h5."""
    with reporting():
        flags = given(
            prepare__dataset=dataset,
            prepare__limit_per_class=limit_per_class,
            prepare__seed=seed,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )
        run_stage(
            "prepare",
            flags,
            sets,
            params,
            dry_run=dry_run,
            auto=not no_auto,
            force=force,
            fresh="prepare" if fresh else "",
        )


def buffer(
    dataset: Dataset = None,
    experts: ExpertCount = None,
    epochs: Epochs = None,
    time_limit: TimeLimit = None,
    seed: Seed = None,
    sets: Set = None,
    params: Params = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoAuto = False,
    dry_run: DryRun = False,
    force: Force = False,
    fresh: Fresh = False,
) -> None:
    """Train expert networks on the real images and keep their parameters after every epoch.

    To add experts or epochs to those that exist, ask for more of them.
    """
    with reporting():
        flags = given(
            prepare__dataset=dataset,
            buffer__experts=experts,
            buffer__epochs=_epochs(epochs),
            buffer__seed=seed,
            runtime__device=device,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )
        limit = None if time_limit is None else seconds(time_limit, "--time-limit")
        options: dict[str, Any] = {"auto": not no_auto, "force": force, "fresh": "buffer" if fresh else ""}
        run_stage("buffer", flags, sets, params, dry_run=dry_run, time_limit=limit, **options)


def distill(
    method: Method = None,
    dataset: Dataset = None,
    ipc: Ipc = None,
    iterations: Iterations = None,
    time_limit: TimeLimit = None,
    experts: ExpertCount = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Start from the images, labels and learning rate of a finished set or snapshot "
            "(distill.start_from). Default: from real images.",
            show_default=False,
            metavar="SET.h5",
        ),
    ] = None,
    seed: Seed = None,
    sets: Set = None,
    params: Params = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoAuto = False,
    dry_run: DryRun = False,
    force: Force = False,
    fresh: Fresh = False,
) -> None:
    """Learn the synthetic images, on which a student's training retraces that of the experts.

    If the dataset or the experts are missing, they are made first. To continue a finished run, ask for more iterations.

    Methods: att, mtt, ftd, tesla, datm, pad, edf, mct, fyi, selmatch, fred; without experts real-loss, rat-bptt, dd,
    ld, dc, dsa, dm, idc, cafe; for more images in the same bytes add +multiformation, +uint8 or +codes.
    All settings: `attcli config distill --describe`.
    """
    with reporting():
        flags = given(
            distill__method=method,
            prepare__dataset=dataset,
            distill__ipc=ipc,
            distill__iterations=iterations,
            distill__start_from=start_from,
            buffer__experts=experts,
            distill__seed=seed,
            runtime__device=device,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )
        refuse_missing(start_from)
        limit = None if time_limit is None else seconds(time_limit, "--time-limit")
        options: dict[str, Any] = {
            "auto": not no_auto,
            "force": force,
            "fresh": "distill" if fresh else "",
            "time_limit": limit,
        }
        run_stage("distill", flags, sets, params, dry_run=dry_run, **options)


def evaluate(
    synthetic: Annotated[
        Path | None,
        typer.Argument(help="A set's or snapshot's file. Default: the results' own set.", metavar="SET.h5"),
    ] = None,
    archs: Annotated[
        str | None,
        typer.Option(
            help="Networks to train: convnet,vgg11, or papers, or all. By default the recipe decides (evaluate.archs).",
            show_default=False,
            metavar="NAMES",
            autocompletion=completion.networks,
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            help="Trainings of each network. By default the recipe decides (evaluate.repeats).",
            show_default=False,
            **COUNT,
        ),
    ] = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            help="Real images to compare with: random, random-kept, random-webp, herding, k-center, forgetting, whole; "
            "or none. The list replaces the default. Default: random; for sets that are not float32 pixels also "
            "random-kept and random-webp.",
            show_default=False,
            metavar="NAMES",
            autocompletion=completion.baselines,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="How networks are trained and tested: mtt, datm, idc, selmatch, ncfm, honest, exact, released, "
            "adam or replay. Default: the set's own protocol (evaluate.protocol).",
            show_default=False,
            metavar="NAME",
        ),
    ] = None,
    snapshots: Annotated[
        bool,
        switch("--snapshots", "Score the results' snapshots: the last one, and the one best on validation images."),
    ] = False,
    literature: Annotated[
        bool,
        switch("--literature", "With --snapshots: also the best test of all snapshots, as papers report it."),
    ] = False,
    method: MethodOfTheSet = None,
    dataset: DatasetOfTheSet = None,
    ipc: IpcOfTheSet = None,
    iterations: IterationsOfTheSet = None,
    experts: ExpertsOfTheSet = None,
    time_limit: TimeLimit = None,
    seed: Seed = None,
    sets: Set = None,
    params: Params = None,
    device: Device = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoAuto = False,
    dry_run: DryRun = False,
    force: Force = False,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Train fresh networks on a distilled set, and on real images instead, and print their accuracy on real ones.

    Without a file, the set in the results folder is scored, and its scores go to scores.json.
    If there is no set, it is distilled first.

    How a set was made is known from its file and needs no flags here.
    """
    with reporting():
        if literature and not snapshots:
            raise UserError("--literature takes the maximum over snapshots; add --snapshots")
        refuse_json(dry_run, as_json)
        if snapshots and synthetic:
            raise UserError("--snapshots scores the results' own snapshots; leave the file out, or use --artifacts DIR")
        if snapshots and baselines not in (None, "none"):
            raise UserError("--snapshots scores no baselines; leave --baselines out, or score the set: attcli evaluate")
        flags = given(
            evaluate__archs=archs,
            evaluate__protocol=protocol,
            evaluate__repeats=repeats,
            evaluate__baselines=baselines,
            distill__method=method,
            prepare__dataset=dataset,
            distill__ipc=ipc,
            distill__iterations=iterations,
            buffer__experts=experts,
            evaluate__seed=seed,
            runtime__device=device,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )

        def act(pipeline: ModuleType, run: "Run") -> Any:
            if snapshots:
                return pipeline.evaluate_snapshots(run, literature=literature)
            return pipeline.evaluate(run, synthetic)

        limit = None if time_limit is None else seconds(time_limit, "--time-limit")
        options: dict[str, Any] = {"auto": not no_auto, "force": force, "fresh": "evaluate" if fresh else ""}
        target = {"file": synthetic, "snapshots": snapshots, "literature": literature}
        options |= {"time_limit": limit, "target": target}
        report = run_stage("evaluate", flags, sets, params, dry_run=dry_run, act=act, **options)
        if report is not None:
            from attcli.scoring.summary import as_json as json_of
            from attcli.tables import scores_table, snapshots_table

            table = snapshots_table if snapshots else scores_table
            typer.echo(json_of(report) if as_json else table(report))


def _epochs(text: str | None) -> Any:
    return int(text) if text and re.fullmatch("[0-9]{1,19}", text) else text
