"""--dry-run: what a command would run, what is there already, and the disk it will take."""

from pathlib import Path

import torch

from attcli import registry
from attcli.data import sources
from attcli.errors import MissingError
from attcli.matching.parameters import Layout
from attcli.stages import identity, inputs
from attcli.stages.run import Run, differences
from attcli.store import artefact, dataset, experts, synthetic

ORDER = ("prepare", "buffer", "distill", "evaluate")


def forecast(run: Run, command: str) -> str:
    """A line for each stage up to `command`; nothing is made."""
    stages = ORDER[: ORDER.index(command) + 1] if run.auto else (command,)
    lines = {"prepare": _prepare, "buffer": _buffer, "distill": _distill, "evaluate": _evaluate}
    return "\n".join(f"{stage:9} {lines[stage](run)}" for stage in stages)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _header(path: Path, kind: str) -> artefact.Header | None:
    return artefact.header(path, kind, "the stage again") if path.exists() else None


def _prepare(run: Run) -> str:
    info = sources.describe(run.settings.images)
    values = info.channels * info.resolution**2
    copies = 2 if hasattr(registry.source(run.settings.prepare.dataset), "digest") else 1  # decoded first, then written
    disk = copies * (info.train + info.test) * values + (
        4 * values**2 if run.settings.prepare.normalise == "zca" else 0
    )
    found = _header(run.dataset, dataset.KIND)
    try:
        fingerprint, _ = identity.prepare(run.settings)
    except MissingError as error:
        return f"would make {run.dataset}, up to {_size(disk)}, but its images are missing: {error}"
    if found and found.fingerprint == fingerprint:
        return f"nothing to do: {run.dataset} is there"
    return f"would make {run.dataset} from {info.title}{_overwriting(run, found)}, up to {_size(disk)}"


def _overwriting(run: Run, found: artefact.Header | None) -> str:
    if not found:
        return ""
    return ", overwriting another one" if run.force else " (another one is there: needs --force)"


def _parameters(run: Run) -> int:
    info = sources.describe(run.settings.images)
    about = {"channels": info.channels, "classes": [""] * info.classes, "resolution": info.resolution}
    with torch.device("meta"):
        return Layout.of(inputs.architecture(run.settings.network, about).build()).size


def _buffer(run: Run) -> str:
    settings = run.settings
    count, epochs = settings.buffer.experts, settings.epochs
    disk = count * (epochs + 1) * _parameters(run) * 4
    what = f"{count} experts of {epochs} epochs ({_size(disk)})"
    found = _header(run.dataset, dataset.KIND)
    if not found:
        return f"would train {what}"
    fingerprint, _ = identity.buffer(settings, found.sha256)
    have = 0
    for i in range(count):
        published = _header(experts.path(run.experts, i), experts.KIND)
        mine = [experts.kept_epochs(experts.path(run.work("buffer", fingerprint), i))]
        if published and published.fingerprint == fingerprint:
            mine.append(experts.epochs_of(experts.path(run.experts, i)))
        have += min(epochs, max(mine))
    missing = count * epochs - have
    return (
        f"would train {missing} of {count * epochs} epochs: {what}" if missing else f"nothing to do: {what} are there"
    )


def _distill(run: Run) -> str:
    settings = run.settings
    info = sources.describe(settings.images)
    wanted, every = settings.distill.iterations, settings.distill.save_every
    set_size = 4 * settings.distill.ipc * info.classes * info.channels * info.resolution**2
    disk = -(-wanted // every) * 3 * set_size + wanted * (8 * settings.distill.syn_steps + 48) * 2
    done = 0
    found = _header(run.dataset, dataset.KIND)
    if found and all(experts.path(run.experts, i).exists() for i in range(settings.buffer.experts)):
        opened = experts.open_experts(run.experts, settings.buffer.experts)
        if opened.epochs >= settings.read_epochs:
            digest = opened.digest(settings.read_epochs)
            folder = run.work("distill", identity.distill(settings, found.sha256, digest)[0]) / "snapshots"
            kept = [synthetic.iteration_of(file) for file in synthetic.snapshots(folder)]
            if latest := _header(folder.parent / "latest.h5", synthetic.SNAPSHOT):
                kept.append(latest.about["iteration"])
            done = max((iteration for iteration in kept if iteration <= wanted), default=0)
        opened.close()
    there = _header(run.synthetic, synthetic.KIND)
    other = there if there and differences(there.settings, identity.distillation(settings)) else None
    what = f"{settings.distill.method}, ipc {settings.distill.ipc}, {settings.distill.syn_steps} steps"
    if done == wanted:
        return f"nothing to do: {wanted} iterations ({what}) are done"
    plan = f"would run {wanted - done} of {wanted} iterations ({what}), up to {_size(disk)} with its snapshots"
    return plan + _overwriting(run, other)


def _evaluate(run: Run) -> str:
    chosen = run.settings.evaluate
    each = 3 + len(chosen.random_lrs)
    networks = len(chosen.archs) * chosen.repeats * each
    return (
        f"would train up to {networks} networks ({', '.join(chosen.archs)}; {chosen.repeats} repeats; synthetic, ema, "
        f"random at {1 + len(chosen.random_lrs)} learning rates) for {chosen.epochs} epochs"
    )
