"""`python -m benchmarks.field PROBLEM`: the methods of the field on the same real images, by one protocol.

Each set has the bytes of `ipc` float32 images per class. Methods keep their published settings where these fit images
of any kind, and get so many iterations that each distils for a similar time; the rates of those that match
trajectories are ATT's, tuned on the problem. Nothing else is tuned. Every distillation runs in a process of its own,
whose CPU time and largest memory are told. What is done is kept in the folder, and an interrupted table goes on there.
Each has one thread; with `--jobs N`, N of them run at a time.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from attcli import progress, runtime
from attcli.settings import resolve
from attcli.stages import evaluate, identity, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, states, synthetic, times
from attcli.store.files import link
from benchmarks.timing import machine

SCORES: dict[str, Any] = {"evaluate.epochs": 300, "evaluate.batch": 256, "evaluate.protocol": "exact"}
SCORED_BY: dict[str, dict[str, Any]] = {
    "convnet": {"evaluate.repeats": 2},
    "vgg11": {"evaluate.repeats": 1, "evaluate.lr": 0.01},
}
"""What each network is trained with besides: VGG11 has a learning rate of its own, as those learned with sets suit the
ConvNets that distilled them."""
DIGITS: dict[str, Any] = {
    "prepare.dataset": "digits",
    "prepare.normalise": "standardise",
    "prepare.validation": 200,
    "network.depth": 2,
    "network.width": 64,
    "buffer.experts": 10,
    "buffer.lr": 0.02,
    "buffer.batch": 64,
    "buffer.augment": "crop_scale_rotate",
    "distill.augment": "crop_scale_rotate",
    "distill.ema_decay": 0.95,
    "distill.save_every": 50,
    "evaluate.augment": "crop_scale_rotate",
    **SCORES,
}
PROBLEMS: dict[str, dict[str, Any]] = {
    "digits-ipc1": {**DIGITS, "distill.ipc": 1},
    "digits-ipc10": {**DIGITS, "distill.ipc": 10, "buffer.lr": 0.05},
    "cifar10-ipc1": {
        "prepare.dataset": "cifar10",
        "prepare.normalise": "literature",
        "prepare.limit_per_class": 500,
        "network.width": 32,
        "buffer.experts": 6,
        "buffer.lr": 0.02,
        "buffer.batch": 64,
        "distill.ipc": 1,
        "distill.ema_decay": 0.99,
        "distill.save_every": 50,
        **SCORES,
    },
}

MATCHING: dict[str, dict[str, Any]] = {
    "digits-ipc1": {
        "buffer.epochs": "auto",
        "distill.iterations": 100,
        "distill.syn_steps": 60,
        "distill.expert_epochs": 3,
        "distill.max_start_epoch": 2,
        "distill.lr_img": 30,
        "distill.lr_init": 0.01,
        "distill.lr_lr": 1e-6,
    },
    "digits-ipc10": {
        "buffer.epochs": "auto",
        "distill.iterations": 100,
        "distill.syn_steps": 40,
        "distill.batch_syn": 50,
        "distill.expert_epochs": 3,
        "distill.max_start_epoch": 4,
        "distill.lr_img": 100,
        "distill.lr_init": 0.03,
        "distill.lr_lr": 1e-5,
    },
    "cifar10-ipc1": {
        "buffer.epochs": "auto",
        "distill.iterations": 150,
        "distill.syn_steps": 40,
        "distill.expert_epochs": 4,
        "distill.max_start_epoch": 2,
        "distill.lr_img": 100,
        "distill.lr_init": 0.02,
        "distill.lr_lr": 1e-6,
    },
}
"""What all methods share that match trajectories: ATT's values, tuned on validation images of the problem."""

SOFT = {"distill.lr_labels": 2.0, "distill.current_max_start_epoch": 1, "distill.expansion_end": 30}
STUDENTS = {"distill.syn_steps": 40, "distill.real_batch": 500}

ROWS: dict[str, tuple[bool, dict[str, Any]]] = {
    "dd": (False, {"distill.method": "dd", "distill.iterations": 150, "distill.syn_steps": 30}),
    "ld": (False, {"distill.method": "ld", "distill.iterations": 300}),
    "dc": (False, {"distill.method": "dc", "distill.iterations": 200}),
    "dsa": (False, {"distill.method": "dsa", "distill.iterations": 200}),
    "dm": (False, {"distill.method": "dm", "distill.iterations": 600}),
    "cafe": (False, {"distill.method": "cafe", "distill.iterations": 100}),
    "idc": (False, {"distill.method": "idc", "distill.iterations": 200, "distill.outer_steps": 20}),
    "mtt": (True, {"distill.method": "mtt"}),
    "ftd": (True, {"distill.method": "ftd"}),
    "datm": (True, {"distill.method": "datm", **SOFT}),
    "pad": (True, {"distill.method": "pad", **SOFT, "buffer.curriculum_growth": 2}),
    "edf": (True, {"distill.method": "edf", **SOFT, "distill.left_out": 0.25}),
    "mct": (True, {"distill.method": "mct"}),
    "fyi": (True, {"distill.method": "fyi"}),
    "att": (True, {"distill.method": "att"}),
    "att+datm": (True, {"distill.method": "att+datm", **SOFT}),
    "att+pad": (True, {"distill.method": "att+pad", **SOFT, "buffer.curriculum_growth": 2}),
    "real-loss": (False, {"distill.method": "real-loss", "distill.iterations": 150, **STUDENTS}),
    "real-loss after att": (False, {"distill.method": "real-loss", "distill.iterations": 100, **STUDENTS}),
}
"""For each row whether its method matches trajectories, and its own settings."""

BEGUN_FROM = {"real-loss after att": "att"}
BASELINES = ("random", "herding")
EXPERTS = "experts"
WORK = ".attcli"
LATEST = "att"
"""The row whose sets baselines are scored beside: they are tried at its learning rate, too."""


def main(
    problem: Annotated[str, typer.Argument(help=f"One of {', '.join(PROBLEMS)}.")],
    rows: Annotated[str, typer.Option(help="Rows; default: all.")] = ",".join(ROWS),
    seeds: Annotated[int, typer.Option(help="Distillations of each row.")] = 3,
    folder: Annotated[Path, typer.Option(help="Where results are kept; an interrupted table goes on.")] = Path("field"),
    data_dir: Annotated[Path, typer.Option(help="Where CIFAR-10 lies.")] = Path("data"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, after every run.")] = None,
    jobs: Annotated[int, typer.Option(help="Distillations at a time, each in a process of its own.")] = 1,
    one: Annotated[str | None, typer.Option(hidden=True, help="ROW:SEED or ROW:experts, in this process.")] = None,
) -> None:
    """Distil with every method, score the last set of each, beside real images; all on the test images."""
    place = folder / problem
    place.mkdir(parents=True, exist_ok=True)
    if one:
        row, _, seed = one.rpartition(":")
        if seed == EXPERTS:
            pipeline.buffer(_run(_changes(place, problem, row, 0, data_dir), place / WORK))
        else:
            made = _made(place, problem, row, int(seed), data_dir)
            _result(place, row, int(seed)).write_text(json.dumps(made))
        return
    asked = rows.split(",")
    words = [sys.executable, "-m", "benchmarks.field", problem, "--folder", str(folder), "--data-dir", str(data_dir)]
    missing = [(row, seed) for seed in range(seeds) for row in asked if not _result(place, row, seed).exists()]

    def make(row: str, what: object, before: Iterable[Future[None]]) -> None:
        for future in before:
            future.result()
        subprocess.run([*words, "--one", f"{row}:{what}"], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def tell(row: str, seed: int) -> None:
        _show(row, seed, json.loads(_result(place, row, seed).read_text()))
        if json_file:
            _write(json_file, place, problem, asked, seeds)

    for seed in range(seeds):
        for row in asked:
            if (row, seed) not in missing:
                tell(row, seed)
    pool = ThreadPoolExecutor(jobs)
    try:
        experts: list[Future[None]] = []
        for row in _experts(place, problem, missing):
            experts.append(pool.submit(make, row, EXPERTS, experts[:]))  # one after the other, as they share a folder
        making: dict[tuple[str, int], Future[None]] = {}
        for row, seed in sorted(missing, key=lambda job: (job[1], job[0] in BEGUN_FROM)):
            earlier = making.get((BEGUN_FROM.get(row, ""), seed))
            before = [*(experts if ROWS[row][0] else []), *([earlier] if earlier else [])]
            making[row, seed] = pool.submit(make, row, seed, before)
        of = {future: job for job, future in making.items()}
        for future in as_completed(of):
            future.result()
            tell(*of[future])
    finally:
        pool.shutdown(cancel_futures=True)


def _experts(place: Path, problem: str, missing: list[tuple[str, int]]) -> list[str]:
    """A row for each kind of experts that these rows read: its settings train them for all."""
    kinds: dict[str, str] = {}
    for row, seed in missing:
        if ROWS[row][0]:
            settings = resolve(_changes(place, problem, row, seed, Path()), ignore_params=True).settings
            kinds.setdefault(json.dumps(identity.making_of_experts(settings), sort_keys=True, default=str), row)
    return list(kinds.values())


def _show(row: str, seed: int, made: dict[str, Any]) -> None:
    scores = "  ".join(f"{arch} {kinds['synthetic']['mean']:.1f}" for arch, kinds in made["scores"].items())
    typer.echo(f"{row:20} seed {seed}  {scores}  {made['cpu_s']:.0f} s, {made['memory_mb']:.0f} MB")


def _write(json_file: Path, place: Path, problem: str, rows: list[str], seeds: int) -> None:
    about = {"problem": problem, "settings": PROBLEMS[problem], "matching": MATCHING[problem], "scored_by": SCORED_BY}
    table = {row: _summary(place, row, seeds) for row in rows}
    found = {"machine": machine("cpu"), "about": about, "rows": {k: v for k, v in table.items() if v}}
    json_file.write_text(json.dumps(found, indent=2) + "\n")


def _name(row: str, seed: int) -> str:
    return f"{row.replace(' ', '-')}-{seed}"


def _own_work(place: Path, row: str, seed: int) -> Path:
    """A work folder of a row's own, with links to the finished experts that rows share."""
    own = place / f"{WORK}-{_name(row, seed)}"
    for finished in ("prepare-*/dataset.h5", "buffer-*/expert-*.h5"):
        for path in (place / WORK).glob(finished):
            there = own / path.relative_to(place / WORK)
            if not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                link(path, there)
    return own


def _result(place: Path, row: str, seed: int) -> Path:
    return place / f"{_name(row, seed)}.json"


def _changes(place: Path, problem: str, row: str, seed: int, data_dir: Path) -> dict[str, Any]:
    matches, own = ROWS[row]
    changes = {**PROBLEMS[problem], **(MATCHING[problem] if matches else {}), **own}
    changes |= {"distill.seed": seed, "evaluate.seed": seed}
    if row in BEGUN_FROM:
        changes["distill.start_from"] = str(place / _name(BEGUN_FROM[row], seed) / "synthetic.h5")
    return changes | {
        "runtime.artifacts": str(place / _name(row, seed)),
        "runtime.data_dir": str(data_dir),
        "runtime.verbosity": "quiet",
    }


def _run(changes: dict[str, Any], work: Path) -> Run:
    run = Run(resolve({**changes, "runtime.work_dir": str(work)}, ignore_params=True).settings)
    progress.configure("quiet")
    runtime.configure(run.settings.runtime.threads, run.settings.runtime.deterministic)
    return run


def _made(place: Path, problem: str, row: str, seed: int, data_dir: Path) -> dict[str, Any]:
    """Distil and score one set: its bytes, scores, CPU seconds and largest memory."""
    changes, work = _changes(place, problem, row, seed, data_dir), _own_work(place, row, seed)
    run = _run(changes, work)
    pipeline.distill(run)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    header = artefact.header(run.synthetic, synthetic.KIND, synthetic.MAKER)
    spent = times.read(run.work("distill", header.fingerprint))
    kinds = (*evaluate.LEARNED, *(BASELINES if row == LATEST else ()))
    last = states.snapshots(run.snapshots)[-1]
    scores: dict[str, Any] = {}
    for arch, scored_by in SCORED_BY.items():
        scorer = _run({**changes, "evaluate.archs": arch, **scored_by}, work)
        scores |= evaluate.row(scorer, last, "test", kinds)["scores"]
    return {
        **synthetic.read(run.synthetic).size,
        "iterations": run.settings.distill.iterations,
        "cpu_s": round(sum(line["cpu_s"] for line in spent), 1),
        "memory_mb": round(memory),
        "scores": {
            arch: {kind: {name: entry[name] for name in ("mean", "sd", "n")} for kind, entry in by_kind.items()}
            for arch, by_kind in scores.items()
        },
    }


def _summary(place: Path, row: str, seeds: int) -> dict[str, Any]:
    """The means over a row's distillations, and the spread over them; nothing where there is none.

    CPU time and memory are those of the first one: the others may have run on another machine.
    """
    files = [path for seed in range(seeds) if (path := _result(place, row, seed)).exists()]
    runs = [json.loads(path.read_text()) for path in files]
    if not runs:
        return {}
    scores: dict[str, Any] = {}
    for arch, kinds in runs[0]["scores"].items():
        scores[arch] = {kind: _over([run["scores"][arch][kind] for run in runs]) for kind in kinds}
    shared = {name: runs[0][name] for name in ("images_per_class", "bytes_per_class", "iterations")}
    effort = {name: runs[0][name] for name in ("cpu_s", "memory_mb")}
    return {**shared, **effort, "distillations": len(runs), "scores": scores}


def _over(entries: list[dict[str, Any]]) -> dict[str, Any]:
    within = [entry["sd"] for entry in entries if entry["sd"] is not None]
    return {
        "mean": round(mean(entry["mean"] for entry in entries), 2),
        "sd_networks": round(mean(within), 2) if within else None,
        "sd_distillations": round(stdev(entry["mean"] for entry in entries), 2) if len(entries) > 1 else None,
        "networks": entries[0]["n"],
    }


if __name__ == "__main__":
    typer.run(main)
