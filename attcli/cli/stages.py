"""The commands that run a stage: prepare, buffer, distill, evaluate."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attcli.cli.command import given, refuse_json, reporting, run_stage
from attcli.cli.flags import (
    Artifacts,
    AsJson,
    DataDir,
    Dataset,
    Device,
    DryRun,
    Epochs,
    ExpertCount,
    Force,
    Fresh,
    Ipc,
    Iterations,
    Method,
    NoAuto,
    Params,
    Seed,
    Set,
    TimeLimit,
)
from attcli.errors import UserError

if TYPE_CHECKING:
    from attcli.stages.run import Run


def prepare(
    dataset: Dataset = None,
    limit_per_class: Annotated[
        int | None, typer.Option(help="Keep only so many training images per class [setting: prepare.limit_per_class].")
    ] = None,
    seed: Seed = None,
    sets: Set = None,
    params: Params = None,
    data_dir: DataDir = None,
    artifacts: Artifacts = None,
    no_auto: NoAuto = False,
    dry_run: DryRun = False,
    force: Force = False,
    fresh: Fresh = False,
) -> None:
    """Read a dataset, fit its normaliser and write dataset.h5."""
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
    """Train expert networks on the real images and keep their trajectories; more experts or epochs extend them."""
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
    """Distil synthetic images by matching the experts' trajectories, making what is missing for it."""
    with reporting():
        flags = given(
            distill__method=method,
            prepare__dataset=dataset,
            distill__ipc=ipc,
            distill__iterations=iterations,
            buffer__experts=experts,
            distill__seed=seed,
            runtime__device=device,
            runtime__data_dir=data_dir,
            runtime__artifacts=artifacts,
        )
        limit = None if time_limit is None else seconds(time_limit, "--time-limit")
        options: dict[str, Any] = {
            "auto": not no_auto,
            "force": force,
            "fresh": "distill" if fresh else "",
            "time_limit": limit,
        }
        run_stage("distill", flags, sets, params, dry_run=dry_run, **options)


def evaluate(
    synthetic: Annotated[Path | None, typer.Argument(help="The set to score; default: the distilled one.")] = None,
    archs: Annotated[
        str | None, typer.Option(help="Networks to train, as convnet,vgg11 [setting: evaluate.archs].")
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Trainings of each network [setting: evaluate.repeats].")] = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            help="Real images to compare with: random (default), herding, k-center, forgetting, whole "
            "[setting: evaluate.baselines]."
        ),
    ] = None,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Score the snapshots: the last, and the best on validation images.")
    ] = False,
    literature: Annotated[
        bool, typer.Option("--literature", help="With --snapshots: also the maximum over tests of all of them.")
    ] = False,
    method: Method = None,
    dataset: Dataset = None,
    ipc: Ipc = None,
    iterations: Iterations = None,
    experts: ExpertCount = None,
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
    """Train fresh networks on the set and on real images instead, test them and print the scores."""
    with reporting():
        if literature and not snapshots:
            raise UserError("--literature takes the maximum over snapshots; add --snapshots")
        refuse_json(dry_run, as_json)
        if dry_run and synthetic and not synthetic.exists():
            raise UserError(f"{synthetic} is missing; name a set's file")
        if snapshots and synthetic:
            raise UserError("--snapshots scores the results' own snapshots; leave the file out, or use --artifacts DIR")
        if snapshots and baselines:
            raise UserError("--snapshots scores no baselines; leave --baselines out, or score the set: attcli evaluate")
        flags = given(
            evaluate__archs=archs,
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

        options: dict[str, Any] = {"auto": not no_auto, "force": force, "fresh": "evaluate" if fresh else ""}
        report = run_stage("evaluate", flags, sets, params, dry_run=dry_run, act=act, **options)
        if report is not None:
            from attcli.scoring.summary import as_json as json_of
            from attcli.tables import scores_table, snapshots_table

            table = snapshots_table if snapshots else scores_table
            typer.echo(json_of(report) if as_json else table(report))


def _epochs(text: str | None) -> Any:
    return int(text) if text and text.isdigit() else text


def seconds(text: str, flag: str) -> float:
    """A duration in seconds: 90s, 30m, 2h, 1d, or as Slurm writes it, 1:30:00 or 2-00:00:00."""
    units: dict[str, float] = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    try:
        if ":" in text:
            days, _, clock = text.rpartition("-")
            parts = [float(part) for part in clock.split(":")]
            duration = float(days or 0) * units["d"] + sum(p * 60.0**i for i, p in enumerate(reversed(parts)))
        else:
            duration = float(text[:-1]) * units[text[-1]] if text[-1] in units else float(text)
    except (ValueError, IndexError):
        duration = 0.0
    if not 0 < duration < float("inf"):
        raise UserError(f"{flag} {text}: write it as 90s, 30m, 2h, 1d or 1:30:00")
    return duration
