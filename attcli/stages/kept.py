"""What is there already of the work that is asked for, among the results or in the work folder; --dry-run asks."""

from pathlib import Path

from attcli.errors import MissingError
from attcli.stages import identity
from attcli.stages.run import Run
from attcli.store import artefact, dataset, experts, states, synthetic

MAKERS = {dataset.KIND: dataset.MAKER, experts.KIND: experts.MAKER}


def header(path: Path, kind: str) -> artefact.Header | None:
    """The header of a file of this kind; None where there is no file."""
    return artefact.header(path, kind, MAKERS.get(kind, synthetic.MAKER)) if path.exists() else None


def prepared(run: Run) -> tuple[Path, artefact.Header] | None:
    """The prepared dataset that is asked for, and its header; None where it is still to be made.

    Where its image files are gone, what was prepared from them stands for them.
    """
    try:
        fingerprint, _ = identity.prepare(run.settings)
    except MissingError:
        return None
    for path in (run.dataset, run.work("prepare", fingerprint) / "dataset.h5"):
        head = header(path, dataset.KIND)
        if head and head.fingerprint == fingerprint:
            return path, head
    return None


def expert_epochs(run: Run) -> int:
    """The epochs of the experts asked for that are trained already."""
    images = prepared(run)
    if not images:
        return 0
    fingerprint, _ = identity.buffer(run.settings, images[1].sha256)
    of_whole, _ = identity.buffer(identity.whole_experts(run.settings), images[1].sha256)
    folders = [run.work("buffer", name) for name in dict.fromkeys((fingerprint, of_whole))]
    kept = 0
    for index in range(run.settings.buffer.experts):
        published = header(experts.path(run.experts, index), experts.KIND)
        longest = [experts.kept_epochs(experts.path(folder, index)) for folder in folders]
        if published and published.fingerprint == fingerprint:
            has = experts.epochs_of(experts.path(run.experts, index))
            if run.settings.buffer.waypoints is None or has == run.settings.epochs:  # compact ones are not shortened
                longest.append(has)
        kept += min(run.settings.epochs, max(longest))
    return kept


def iterations(run: Run) -> int:
    """The iterations of the distillation asked for that are done already, as `Outcome.resume` goes on after them."""
    settings, images = run.settings, prepared(run)
    if not images:
        return 0
    digest = _experts_digest(run, images[1].sha256)
    if digest is None:
        return 0
    folder = run.work("distill", identity.distill(settings, images[1].sha256, digest)[0]) / "snapshots"
    wanted = settings.distill.iterations
    kept = [states.iteration_of(file) for file in states.snapshots(folder)]
    gap = states.first_missing(kept, settings.distill.save_every, wanted)
    usable = [iteration for iteration in kept if iteration < gap]
    if latest := header(folder.parent / "latest.h5", states.KIND):
        usable += [latest.about["iteration"]] if latest.about["iteration"] <= gap else []
    return max((iteration for iteration in usable if iteration <= wanted), default=0)


def _experts_digest(run: Run, images: str) -> str | None:
    """The digest of the epochs of all experts that distilling reads, if it does; None where some are to be trained."""
    settings, count = run.settings, run.settings.buffer.experts
    if not settings.reads_experts:
        return experts.Experts([]).digest(settings.read_epochs)
    fingerprint, _ = identity.buffer(settings, images)
    for folder in (run.experts, run.work("buffer", fingerprint)):
        headers = [header(experts.path(folder, index), experts.KIND) for index in range(count)]
        if not all(head and head.fingerprint == fingerprint for head in headers):
            continue
        opened = experts.open_experts(folder, count)
        try:
            if opened.epochs >= settings.read_epochs:
                return opened.digest(settings.read_epochs)
        finally:
            opened.close()
    return None
