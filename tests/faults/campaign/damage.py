"""Files that are damaged, cut short, or false: none is used, and what can be made again is."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import attcli
from attcli.errors import UserError
from attcli.interchange import released_experts
from attcli.store import artefact, dataset, experts, history, normaliser, states, synthetic
from tests.faults.campaign.ground import SETS, Ground, Job, flags, results, stage
from tests.faults.campaign.process import REMEDY, Ended, clean, run
from tests.faults.campaign.tally import Tally

LONGER = stage("distill", "distill", 2, **{"distill.iterations": 8})
"""A distillation that goes on with a finished one."""


def readers(ground: Ground) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """One file of each kind, and what reads it to its end; what is returned tells whether it was read rightly."""
    folder = ground.state("evaluate") / "artifacts"
    data = dataset.read(folder / "dataset.h5")
    layout = experts.read(experts.path(folder / "experts", 0))[0].about["layout"]
    exported = {form: ground.state(f"export {form}") / "exported" / form for form in ("safetensors", "png", "released")}
    return {
        "dataset.h5": (folder / "dataset.h5", dataset.read),
        "expert": (experts.path(folder / "experts", 0), experts.read),
        "compact expert": (
            experts.path(ground.state("compact experts") / "exported" / "compact" / "experts", 0),
            experts.read,
        ),
        "snapshot": (states.snapshots(folder / "snapshots")[0], lambda path: states.read(path, data.normaliser)),
        "synthetic.h5": (folder / "synthetic.h5", synthetic.read),
        "history.h5": (folder / "history.h5", lambda path: artefact.read(path, history.KIND, history.MAKER)),
        "normaliser.h5": (
            folder / "normaliser.h5",
            lambda path: normaliser.read(path, data.about["normaliser"]["sha256"]),
        ),
        "imported set (safetensors)": (exported["safetensors"] / "distilled.safetensors", attcli.load),
        "imported set (images_best.pt)": (exported["released"] / "images_best.pt", attcli.load),
        "imported set (a PNG file)": (exported["png"] / "00003" / "00000.png", attcli.load),
        "imported set (metadata.csv)": (exported["png"] / "metadata.csv", attcli.load),
        "imported experts (replay_buffer_0.pt)": (
            ground.root / "buffers" / "replay_buffer_0.pt",
            lambda path: released_experts.read_experts(path, layout, "a network"),
        ),
    }


def numbers(value: Any) -> list[np.ndarray]:
    """All tensors and arrays in what was read, so that two readings can be compared."""
    if isinstance(value, Tensor):
        return [value.detach().clone().numpy()]  # a copy: it may be mapped from the file
    if isinstance(value, np.ndarray):
        return [np.array(value)]
    if isinstance(value, dict):
        return [x for key in sorted(value) for x in numbers(value[key])]
    if isinstance(value, (list, tuple)):
        return [x for part in value for x in numbers(part)]
    return [x for part in vars(value).values() for x in numbers(part)] if hasattr(value, "__dataclass_fields__") else []


def places(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """A bit that flips, and an end that is missing, at so many places of each kind of file."""
    for kind, (source, read) in readers(ground).items():
        copy, path = _copied(ground, source)
        whole, right = source.read_bytes(), numbers(read(_named(path, kind)))
        draws = np.random.default_rng([seed, 5])
        flips, cuts = Tally("a bit flips", kind, seed), Tally("cut short", kind, seed)
        for place in draws.integers(0, len(whole), trials).tolist():
            changed = bytearray(whole)
            changed[place] ^= 1 << int(draws.integers(8))
            flips.trial(f"byte {place}", read_damaged, path, bytes(changed), kind, read, right)
        for length in draws.integers(0, len(whole), trials).tolist():
            cuts.trial(f"{length} bytes", read_damaged, path, whole[:length], kind, read, right)
        yield flips
        yield cuts
        ground.drop(copy)


def _copied(ground: Ground, source: Path) -> tuple[Path, Path]:
    """A copy of the folder of a file with all that stands beside it, and the file in it."""
    folder, inside = ground.log(), source.parents[1] if source.suffix == ".png" else source.parent
    shutil.copytree(inside, folder)
    return folder, folder / source.relative_to(inside)


def _named(path: Path, kind: str) -> Path:
    """What is named to read a file: the folder where it is one of several."""
    return path.parents[1] if path.suffix == ".png" else path.parent if "csv" in kind else path


def read_damaged(path: Path, content: bytes, kind: str, read: Callable, right: list[np.ndarray]) -> str:
    path.write_bytes(content)
    message, found = "", []
    try:
        found = numbers(read(_named(path, kind)))
    except UserError as error:
        message = str(error)
    if message:
        assert REMEDY.search(message), f"no remedy: {message}"
        return "refused"
    assert len(found) == len(right), "other numbers were read"
    assert all(map(np.array_equal, found, right)), "wrong numbers were read"
    return "read, with the right numbers"


def consumers(ground: Ground) -> dict[str, tuple[str, Job]]:
    """Of each kind the name of a file among the results, and a command that meets it."""
    jobs = ground.jobs
    return {
        "dataset.h5": ("artifacts/dataset.h5", jobs["buffer"]),
        "expert": ("artifacts/experts/expert-0001.h5", jobs["distill"]),
        "snapshot": ("artifacts/snapshots/iteration-0000006.h5", LONGER),
        "synthetic.h5": ("artifacts/synthetic.h5", jobs["evaluate"]),
        "history.h5": ("artifacts/history.h5", LONGER),
        "normaliser.h5": ("artifacts/normaliser.h5", LONGER),
    }


def met(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """A file that is damaged on the disk, in all its links, and the command that meets it; its message is followed."""
    for kind, (name, job) in consumers(ground).items():
        tally, draws = Tally("a damaged file, its message followed", kind, seed), np.random.default_rng([seed, 6])
        for _ in range(trials):
            share = float(draws.uniform(0, 1))
            tally.trial(f"at {share:.3f}", _followed, ground, name, job, share)
        yield tally


def _followed(ground: Ground, name: str, job: Job, share: float) -> str:
    wanted = _wanted(ground, job)
    folder = ground.fresh(job.before)
    spoil(folder / name, share)
    steps = []
    for _ in range(6):
        ended = clean(run(job.words, folder, ground.log()))
        if not ended.code:
            break
        steps.append(_obey(ground, folder, ended))
    assert not ended.code, ended.complained[-1500:]
    _equal(folder, wanted)
    ground.drop(folder)
    return f"refused, then: {', '.join(dict.fromkeys(steps))}" if steps else "made anew, or not needed"


def _wanted(ground: Ground, job: Job) -> dict[str, object]:
    if job is not LONGER:
        return ground.wanted(job.name)
    ground.others["distill, longer"] = LONGER
    return ground.wanted("distill, longer")


def _equal(folder: Path, wanted: dict[str, object]) -> None:
    left = {name: value for name, value in results(folder).items() if not name.endswith(".damaged")}
    different = [name for name in left.keys() | wanted.keys() if left.get(name) != wanted.get(name)]
    assert not different, f"other bytes: {different}"


def spoil(path: Path, share: float) -> None:
    """Flip a bit in place, as a bad disk does: in all its hard links."""
    with path.open("r+b") as file:
        place = int(share * path.stat().st_size)
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 16]))


REPLACE = re.compile(r"attcli: (\S+) is damaged.*(?:delete it|move it elsewhere) and run `attcli (\w+)`")


def _obey(ground: Ground, folder: Path, ended: Ended) -> str:
    """Do what a message says: delete the file, and run the command."""
    match = REPLACE.search(ended.lines[0])
    assert match, f"a message that can't be followed: {ended.lines[0]}"
    (folder / match[1]).unlink()
    again = clean(run(ground.jobs[match[2]].words, folder, ground.log()))
    if again.code:
        return _obey(ground, folder, again)
    return f"removed, attcli {match[2]}"


def not_finite(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """An expert that is whole and right by all its checksums, but whose parameters are not finite."""
    tally, draws = Tally("an expert with NaN or infinite parameters", "distill", seed), np.random.default_rng([seed, 7])
    for _ in range(trials):
        epoch, value = int(draws.integers(0, 3)), (np.nan, np.inf)[int(draws.integers(2))]
        tally.trial(f"epoch {epoch}, {value}", _poisoned, ground, epoch, value, draws)
    yield tally
    tally = Tally("an expert with NaN or infinite parameters", "import experts", seed)
    for _ in range(trials):
        tally.trial("import", _imported, ground, draws)
    yield tally


def _poisoned(ground: Ground, epoch: int, value: float, draws: np.random.Generator) -> str:
    job = ground.jobs["distill"]
    wanted, folder = ground.wanted("distill"), ground.fresh("buffer")
    (kept,) = (folder / ".attcli").glob("buffer-*/expert-0001.h5")
    header, trajectory = experts.read(kept)
    rows = [row.copy() for row in trajectory.parameters]
    for row in rows[epoch:]:  # what has become so stays so
        row[int(draws.integers(len(row)))] = value
    published = folder / "artifacts" / "experts" / kept.name
    for path in (kept, published):
        experts.write(path, header, experts.Trajectory(rows, trajectory.loss, trajectory.accuracy))
    steps = []
    for _ in range(4):
        ended = clean(run(job.words, folder, ground.log()))
        if not ended.code:
            break
        steps.append(_obey(ground, folder, ended))
    assert steps, "it was used"
    _equal(folder, wanted)
    ground.drop(folder)
    return f"refused, then: {', '.join(dict.fromkeys(steps))}"


def _imported(ground: Ground, draws: np.random.Generator) -> str:
    folder, source = ground.fresh("prepare"), ground.log()
    source.mkdir(parents=True)
    held = torch.load(ground.root / "buffers" / "replay_buffer_0.pt", weights_only=True)
    tensor = held[0][int(draws.integers(len(held[0])))][0]
    tensor.view(-1)[int(draws.integers(tensor.numel()))] = float("nan")
    torch.save(held, source / "replay_buffer_0.pt")
    ended = clean(run(["import", str(source), "--no-auto", *flags(SETS)], folder, ground.log()))
    assert ended.code == 2, "it was taken in"
    assert "finite" in ended.lines[0], ended.lines[0]
    ground.drop(folder)
    return "refused"


CHANGES: dict[str, dict[str, object]] = {
    "another seed": {"prepare.seed": 7},
    "another split": {"prepare.validation": 150},
    "another normaliser": {"prepare.normalise": "zca"},
    "fewer images": {"prepare.limit_per_class": 50},
}


def changed(ground: Ground, seed: int, trials: int) -> Iterator[Tally]:
    """The dataset is another one when the experts are finished."""
    tally = Tally("a changed dataset under finished experts", "distill", seed)
    for name, change in CHANGES.items():
        tally.trial(name, _changed, ground, change)
    yield tally


def _changed(ground: Ground, change: dict[str, object]) -> str:
    job, other = ground.jobs["distill"], flags({**SETS, **change})
    folder = ground.fresh("buffer")
    assert clean(run(["prepare", *other], folder, ground.log())).code == 2, "it was overwritten without --force"
    assert clean(run(["prepare", "--force", *other], folder, ground.log())).code == 0
    for words in (job.words, ["distill", "--no-auto", *other]):
        ended = clean(run(words, folder, ground.log()))
        assert ended.code == 2, f"exit code {ended.code}: {ended.complained[-1000:]}"
        assert not (folder / "artifacts" / "synthetic.h5").exists()
    assert clean(run([*ground.jobs["prepare"].words, "--force"], folder, ground.log())).code == 0
    ground.again(job, folder)
    ground.drop(folder)
    return "refused until it was the right one again"
