"""`python -m benchmarks.field PROBLEM`: the methods of the field on the same real images, by one protocol.

Each set has the bytes of `ipc` float32 images per class. Methods keep their published settings where these fit images
of any kind, and get so many iterations that each distils for a similar time; those that match trajectories share ATT's
rates. Nothing else is tuned. Every distillation runs in a process of its own,
whose CPU time and largest memory are told. What is done is kept in the folder, and an interrupted table goes on there.
Each has one thread; with `--jobs N`, N of them run at a time. The file of `--json` holds every run, so that a table
also goes on from it on another machine.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from attcli import progress, runtime
from attcli.atomic import atomic
from attcli.options import VARIANTS
from attcli.settings import resolve
from attcli.stages import evaluate, identity, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, states, synthetic, times
from attcli.store.files import link
from benchmarks.field_rows import BEGUN_FROM, MATCHING, PROBLEMS, ROWS, SCORED_BY
from benchmarks.timing import machine

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
        row, _, what = one.rpartition(":")
        if what == EXPERTS:
            pipeline.buffer(_run(_changes(place, problem, row, 0, data_dir), place / WORK))
        else:
            made = _made(place, problem, row, int(what), data_dir)
            _keep(_result(place, row, int(what)), {**made, "settings": _settings_of(problem, row)})
        return
    asked = rows.split(",")
    known = _go_on(json_file, place, problem) if json_file and json_file.exists() else {}
    _refuse_others(place, problem)
    words = [sys.executable, "-m", "benchmarks.field", problem, "--folder", str(folder), "--data-dir", str(data_dir)]
    missing = [(row, seed) for seed in range(seeds) for row in asked if not _result(place, row, seed).exists()]
    for row, seed in missing[:]:
        first = (BEGUN_FROM.get(row, ""), seed)
        if row in BEGUN_FROM and first not in missing and not _set(place, *first).exists():
            missing.append(first)  # its score is known from a file, but its set is not here

    def make(row: str, what: object, before: Iterable[Future[None]]) -> None:
        for future in before:
            future.result()
        subprocess.run([*words, "--one", f"{row}:{what}"], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def tell(row: str, seed: int) -> None:
        _show(row, seed, json.loads(_result(place, row, seed).read_text()))
        if json_file:
            _write(json_file, place, problem, known)

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


def _about(problem: str) -> dict[str, Any]:
    shared = {"settings": PROBLEMS[problem], "matching": MATCHING[problem], "scored_by": SCORED_BY}
    return {"problem": problem, **shared, "own": {row: own for row, (_, own) in ROWS.items()}}


def _settings_of(problem: str, row: str) -> str:
    """What a row's runs depend on, as a digest."""
    about = _about(problem)
    decisive = {**about, "own": about["own"][row]}
    if row in BEGUN_FROM:
        decisive["begun_from"] = about["own"][BEGUN_FROM[row]]
    return sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _refuse_others(place: Path, problem: str) -> None:
    """BadParameter where the folder holds runs of other settings than these; older runs do not say theirs."""
    for row in ROWS:
        for seed, run in _runs(place, row).items():
            if run.get("settings", wanted := _settings_of(problem, row)) != wanted:
                raise typer.BadParameter(
                    f"{_result(place, row, int(seed))} was made with other settings; move it and the folder of the "
                    f"same name elsewhere, or name another --folder"
                )


def _go_on(json_file: Path, place: Path, problem: str) -> dict[str, Any]:
    """Put the runs of an earlier file into the folder, where they are not; return the file."""
    earlier: dict[str, Any] = json.loads(json_file.read_text())
    settings = {name: value for name, value in earlier["about"].items() if name != "note"}
    if settings != json.loads(json.dumps(_about(problem))):
        raise typer.BadParameter(f"{json_file} has runs of another problem or with other settings; name another file")
    for row, by_seed in earlier["runs"].items():
        for seed, run in by_seed.items():
            if not _result(place, row, int(seed)).exists():
                _keep(_result(place, row, int(seed)), run)
    return earlier


def _write(json_file: Path, place: Path, problem: str, earlier: dict[str, Any]) -> None:
    """Write all that the folder has, with the machine and the note of the earlier file, if there is one."""
    runs = {row: by_seed for row in ROWS if (by_seed := _runs(place, row))}
    found = {
        "machine": earlier.get("machine") or machine("auto"),
        "about": {**earlier.get("about", {}), **_about(problem)},
        "rows": {row: _summary(list(by_seed.values())) for row, by_seed in runs.items()},
        "runs": runs,
    }
    _keep(json_file, found)


def _keep(path: Path, what: dict[str, Any]) -> None:
    with atomic(path) as new:
        new.write_text(json.dumps(what, indent=2) + "\n")


def _runs(place: Path, row: str) -> dict[str, dict[str, Any]]:
    """What the folder has of a row, by seed."""
    seeds = sorted(int(path.stem.rpartition("-")[2]) for path in place.glob(f"{_name(row, '[0-9]*')}.json"))
    return {str(seed): json.loads(_result(place, row, seed).read_text()) for seed in seeds}


def _name(row: str, seed: object) -> str:
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


def _set(place: Path, row: str, seed: int) -> Path:
    return place / _name(row, seed) / "synthetic.h5"


def _changes(place: Path, problem: str, row: str, seed: int, data_dir: Path) -> dict[str, Any]:
    matches, own = ROWS[row]
    changes = {**PROBLEMS[problem], **(MATCHING[problem] if matches else {}), **own}
    changes |= {"distill.seed": seed, "evaluate.seed": seed}
    if row in BEGUN_FROM:
        changes["distill.start_from"] = str(_set(place, BEGUN_FROM[row], seed))
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
    kinds = (*VARIANTS, *(BASELINES if row == LATEST else ()))
    last = states.snapshots(run.snapshots)[-1]
    scores: dict[str, Any] = {}
    for arch, scored_by in SCORED_BY.items():
        scorer = _run({**changes, "evaluate.archs": arch, **scored_by}, work)
        without = () if arch == run.settings.network.arch else ("ema",)  # another architecture costs most of the time
        scores |= evaluate.row(scorer, last, "test", [kind for kind in kinds if kind not in without])["scores"]
    return {
        **synthetic.read(run.synthetic).size,
        "iterations": run.settings.distill.iterations,
        "cpu_s": round(sum(line["cpu_s"] for line in spent), 1),
        "memory_mb": round(memory),
        "machine": machine("auto"),
        "scores": {
            arch: {kind: {name: entry[name] for name in ("mean", "sd", "n")} for kind, entry in by_kind.items()}
            for arch, by_kind in scores.items()
        },
    }


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over a row's distillations, and the spread over them.

    CPU time and memory are those of the first one: the others may have run on another machine.
    """
    scores: dict[str, Any] = {}
    for arch in runs[0]["scores"]:
        of_arch = [run["scores"][arch] for run in runs]
        shared_kinds = [kind for kind in of_arch[0] if all(kind in kinds for kinds in of_arch)]
        scores[arch] = {kind: _over([kinds[kind] for kinds in of_arch]) for kind in shared_kinds}
    shared = {name: runs[0][name] for name in ("images_per_class", "bytes_per_class", "iterations")}
    effort = {name: runs[0][name] for name in ("cpu_s", "memory_mb")}
    return {**shared, **effort, "distillations": len(runs), "scores": scores}


def _over(entries: list[dict[str, Any]]) -> dict[str, Any]:
    within = [entry["sd"] for entry in entries if entry["sd"] is not None]
    return {
        "mean": round(mean(entry["mean"] for entry in entries), 4),
        "sd_networks": round(mean(within), 4) if within else None,
        "sd_distillations": round(stdev(entry["mean"] for entry in entries), 4) if len(entries) > 1 else None,
        "networks": entries[0]["n"],
    }


if __name__ == "__main__":
    typer.run(main)
