"""Small runs in float64 that between them use every stage, trainer, method, engine and protocol, and their arrays."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from attcli import runtime
from attcli.data import normalise
from attcli.data.sources import digits
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.scoring import protocol, training
from attcli.settings import resolve
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import experts, synthetic

Arrays = dict[str, np.ndarray]

DSA = "color_crop_cutout_flip_scale_rotate"
BASE: dict[str, object] = {
    "prepare.dataset": "digits",
    "prepare.normalise": "standardise",
    "prepare.validation": 100,
    "network.arch": "convnet",
    "network.width": 4,
    "network.depth": 2,
    "buffer.precision": "float64",
    "buffer.experts": 2,
    "buffer.epochs": 3,
    "buffer.batch": 64,
    "buffer.lr": 0.05,
    "buffer.augment": DSA,
    "distill.precision": "float64",
    "distill.storage": "float64",
    "distill.ipc": 1,
    "distill.iterations": 3,
    "distill.syn_steps": 12,
    "distill.expert_epochs": 2,
    "distill.max_start_epoch": 2,
    "distill.lr_img": 2.0,
    "distill.lr_init": 0.03,
    "distill.lr_lr": 1e-5,
    "distill.ema_decay": 0.9,
    "distill.augment": DSA,
    "distill.max_loss": None,
    "evaluate.precision": "float64",
    "evaluate.repeats": 2,
    "evaluate.epochs": 6,
    "evaluate.baselines": "random",
    "runtime.execution": "eager",
}

PREPARE: dict[str, dict[str, object]] = {
    "standardise": {},
    "limited": {"prepare.validation": 50, "prepare.limit_per_class": 40},
}

TRAINERS: dict[str, dict[str, object]] = {
    "sgd": {"buffer.trainer": "sgd"},
    "momentum": {"buffer.trainer": "sgd", "buffer.momentum": 0.9, "buffer.weight_decay": 5e-4, "buffer.lr": 0.01},
    "ftd": {"buffer.trainer": "ftd"},
    "curriculum": {
        "buffer.curriculum": "easy-first",
        "buffer.curriculum_growth": 1,
        "buffer.difficulty_networks": 1,
        "buffer.difficulty_epochs": 1,
    },
    "ftd-plain": {"buffer.trainer": "ftd", "buffer.adaptive": False, "buffer.rho": 0.05},
}

BY_CLASS: dict[str, object] = {
    "distill.ipc": 2,
    "distill.lr_img": 0.1,
    "distill.real_per_class": 20,
    "distill.outer_steps": 2,
    "distill.inner_epochs": 2,
}

DISTILLATIONS: dict[str, dict[str, object]] = {
    "mtt": {"distill.method": "mtt"},
    "att": {"distill.method": "att"},
    "att-l2": {"distill.method": "att", "distill.select_metric": "l2"},
    "ftd": {"distill.method": "ftd"},
    "tesla": {"distill.method": "tesla"},
    "datm": {"distill.method": "datm", "distill.max_loss": 9.0, "distill.expansion_end": 2},
    "att+datm": {"distill.method": "att+datm", "distill.max_loss": 9.0, "distill.expansion_end": 2},
    "mct": {"distill.method": "mct", "buffer.epochs": 4},
    "unroll": {"distill.method": "att", "distill.engine": "unroll"},
    "real-loss": {"distill.method": "real-loss", "distill.real_batch": 50, "distill.lr_img": 0.05},
    "rat-bptt": {
        "distill.method": "rat-bptt",
        "distill.steps_before": 2,
        "distill.syn_steps": 4,
        "distill.real_batch": 50,
        "distill.batch_syn": 5,
        "distill.lr_img": 0.05,
        "distill.clip": 0.9,
    },
    "dd": {
        "distill.method": "dd",
        "distill.ipc": 2,
        "distill.batch_syn": 10,
        "distill.syn_steps": 4,
        "distill.real_batch": 50,
        "distill.lr_img": 0.05,
        "distill.lr_lr": 0.05,
        "distill.halve_every": 2,
    },
    "ld": {
        "distill.method": "ld",
        "distill.syn_steps": 1,
        "distill.batch_syn": 5,
        "distill.real_batch": 50,
        "distill.lr_img": 0.0,
        "distill.lr_init": 0.5,
        "distill.lr_labels": 0.3,
        "distill.along_patience": 1,
    },
    "att+pad": {
        "distill.method": "att+pad",
        "distill.max_loss": 9.0,
        "distill.left_out": 0.3,
        "buffer.curriculum": "none",
    },
    "att+edf": {"distill.method": "att+edf", "distill.max_loss": 9.0, "distill.emphasis_every": 2},
    "fyi": {"distill.method": "fyi", "distill.ipc": 2, "distill.batch_syn": 7},
    "selmatch": {
        "distill.method": "att+selmatch",
        "distill.ipc": 2,
        "distill.distilled_share": 0.5,
        "buffer.difficulty": "forgetting",
        "buffer.difficulty_networks": 1,
        "buffer.difficulty_epochs": 2,
    },
    "far": {"distill.method": "att", "distill.compare": "far"},
    "dc": {"distill.method": "dc", "distill.augment": "none", **BY_CLASS},
    "dsa": {"distill.method": "dsa", "distill.set_per_class": 1, **BY_CLASS},
    "dm": {"distill.method": "dm", **BY_CLASS},
    "cafe": {"distill.method": "cafe", "distill.query_per_class": 5, "distill.most_epochs": 2, **BY_CLASS},
    "teacher": {"distill.method": "tesla", "distill.labels": "teacher"},
    "rejecting": {"distill.method": "mtt", "distill.max_loss": 1e-3},
    "short-batches": {"distill.method": "att", "distill.ipc": 2, "distill.batch_syn": 7, "distill.init": "noise"},
}

SCALES = {"distill.scales_every": 1, "distill.scales_until": 2}

CODED: dict[str, dict[str, object]] = {
    "multiformation": {"distill.method": "multiformation"},
    "idc": {"distill.method": "idc", "distill.network_images": 40, **BY_CLASS, "distill.lr_img": 0.001},
    "fred": {"distill.method": "att+fred", "distill.frequencies": 16},
    "multiformation-uint8": {"distill.method": "att+multiformation+uint8", "distill.storage": "uint8", **SCALES},
    "fred-codes": {"distill.method": "fred+codes", "distill.storage": "codes", "distill.frequencies": 16, **SCALES},
    "labels": {
        "distill.method": "datm+uint8",
        "distill.storage": "uint8",
        "distill.label_storage": "uint8",
        "distill.max_loss": 9.0,
        "distill.expansion_end": 2,
        **SCALES,
    },
}
"""Sets of other numbers than pixels; their storage is float64 where it is not said."""

SCORES: dict[str, dict[str, object]] = {
    "exact": {"distill.method": "att"},
    "released": {"distill.method": "att", "evaluate.protocol": "released"},
    "soft-labels": {"distill.method": "datm", "distill.max_loss": 9.0, "distill.expansion_end": 2},
}


def _run(folder: Path, name: str, changes: dict[str, object]) -> Run:
    """A run with results of its own; equal work (the experts, above all) is shared."""
    flags = {**BASE, **changes, "runtime.artifacts": str(folder / name), "runtime.work_dir": str(folder / "work")}
    return Run(resolve(flags, environ={}, ignore_params=True).settings)


def _prepared(folder: Path, name: str) -> Arrays:
    run = _run(folder, f"prepare/{name}", PREPARE[name])
    pipeline.prepare(run)
    with h5py.File(run.dataset) as file:
        arrays = {f"{split}-labels": file[f"{split}/labels"][()] for split in ("train", "validation", "test")}
        pixels = {f"{split}-sums": file[f"{split}/images"][()].sum(axis=(1, 2, 3)) for split in ("train", "validation")}
        return {**arrays, **pixels, "mean": file["normaliser/mean"][()], "std": file["normaliser/std"][()]}


def _whitened() -> Arrays:
    """Images whitened by a ZCA that is fitted on others: its eigenvectors alone are fixed only up to their signs."""
    pixels = torch.from_numpy(digits.load(Path(), "digits").train.images).float() / 16
    inputs = normalise.fit("zca", pixels[:500], 0.1).forward(pixels[500:503].double())
    return {"whitened-float32": inputs.numpy()}


def _trained(folder: Path, name: str) -> Arrays:
    run = _run(folder, f"buffer/{name}", {**TRAINERS[name], "buffer.experts": 1, "distill.max_start_epoch": 1})
    pipeline.buffer(run)
    with h5py.File(experts.path(run.experts, 0)) as file:
        return {name: file[name][()][[0, 1]] if name == "parameters" else file[name][()][:1]
                for name in ("parameters", "loss", "accuracy")}  # fmt: skip


def _distilled(folder: Path, name: str) -> Arrays:
    run = _run(folder, f"distill/{name}", DISTILLATIONS[name])
    pipeline.distill(run)
    with h5py.File(run.synthetic) as file, h5py.File(run.history) as history:
        images = {"images": file["synthetic/images/values"][()], "ema": file["ema/images/values"][()]}
        learned = {**images, "labels": file["labels"][()], "lr": file["lr"][()]}
        told = {part: history[part][()] for part in ("expert", "start_epoch", "step", "accepted")}
        return {**learned, **told}


def _coded(folder: Path, name: str) -> Arrays:
    run = _run(folder, f"coded/{name}", CODED[name])
    pipeline.distill(run)
    read = synthetic.read(run.synthetic)
    with h5py.File(run.history) as history:
        told = {part: history[part][()] for part in ("expert", "start_epoch", "step", "accepted")}
    images = {kind: x[:20].numpy() for kind, x in read.variants.items()}
    return {**images, "labels": read.labels[:20].numpy(), "lr": np.asarray(read.lr), **told}


def _scored(folder: Path, name: str) -> Arrays:
    run = _run(folder, f"evaluate/{name}", SCORES[name])
    pipeline.distill(run)
    scores = pipeline.evaluate(run)["scores"]["convnet"]
    return {kind: np.asarray([entry["mean"], entry["sd"]]) for kind, entry in scores.items()}


def _networks(name: str) -> Arrays:
    """A network's parameters after training by a protocol on images of one pattern a class."""
    architecture = Architecture("convnet", 1, 10, 8, {"width": 4, "depth": 2})
    chosen = protocol.Protocol(name, epochs=8, batch=7, momentum=0.9, weight_decay=5e-4, augment=DSA)
    images = torch.randn((20, 1, 8, 8), generator=runtime.stream(0, "golden"), dtype=torch.float32).double()
    key = (0, "golden", 0)
    theta = training.fresh(architecture, key).double()
    student = Student.of(architecture.build())
    return {"parameters": training.train(
        student, theta, images, torch.arange(20) % 10, 10, 0.01, chosen, key).numpy()}  # fmt: skip


def cases(folder: Path) -> Iterator[tuple[str, str, Callable[[], Arrays]]]:
    """Every case: its stage, its name, and the function that computes its arrays, in `folder`."""
    yield "prepare", "zca", _whitened
    for name in PREPARE:
        yield "prepare", name, lambda name=name: _prepared(folder, name)
    for name in TRAINERS:
        yield "buffer", name, lambda name=name: _trained(folder, name)
    for name in DISTILLATIONS:
        yield "distill", name, lambda name=name: _distilled(folder, name)
    for name in CODED:
        yield "distill", f"coded-{name}", lambda name=name: _coded(folder, name)
    for name in SCORES:
        yield "evaluate", name, lambda name=name: _scored(folder, name)
    for name in ("exact", "released"):
        yield "evaluate", f"networks-{name}", lambda name=name: _networks(name)


def write(path: Path, algorithms: dict[str, int], computed: dict[str, Arrays]) -> None:
    """Keep the arrays of all cases, and the ALGORITHM numbers of the stages that computed them."""
    flat = {f"{case}:{name}": array for case, arrays in computed.items() for name, array in arrays.items()}
    np.savez_compressed(path, **flat, ALGORITHM=np.asarray(json.dumps(algorithms)))


def files(path: Path) -> list[Path]:
    """The file of golden arrays, and those beside it of cases that were added later."""
    return sorted(path.parent.glob(f"{path.stem}*{path.suffix}"))


def read(path: Path) -> tuple[dict[str, int], dict[str, Arrays]]:
    """What `write` kept, in this file and those beside it. ValueError where they are of different algorithms."""
    kept: dict[str, Arrays] = {}
    numbers: list[dict[str, int]] = []
    for part in files(path):
        with np.load(part) as file:
            for key in file.files:
                case, _, name = key.partition(":")
                if name:
                    kept.setdefault(case, {})[name] = file[key]
            numbers.append(json.loads(str(file["ALGORITHM"])))
    if any(other != numbers[0] for other in numbers):
        raise ValueError("the arrays are of different ALGORITHM numbers; renew them all with `python -m tests.golden`")
    return numbers[0], kept
