"""import: sets and experts of other programs become results, as if they had been made here, and say that they were not.

Experts are kept in the work folder as well, under an identity that names their files. Whoever distils from them names
them too (`buffer.imported`), so that settings still say all that decides a result.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loguru import logger

from attcli import interchange, runtime
from attcli.errors import DamagedError, UserError, one_line
from attcli.interchange import Plain, Whole, packing, tensors
from attcli.progress import track
from attcli.settings import Settings
from attcli.stages import compacting, identity, inputs
from attcli.stages import prepare as prepare_stage
from attcli.stages.outcome import draw_grid, drop_scores, scores_are_of
from attcli.stages.run import OTHERWISE, Run, may_write
from attcli.store import artefact, dataset, experts, history, normaliser, states, synthetic
from attcli.store.publishing import publish

MAKER = "attcli import"


def run(run: Run, paths: Sequence[Path], form: str | None = None, lr: float | None = None) -> str:
    """Import the experts or the set in these files or folders; returns what to do next, in a line."""
    name = form or interchange.recognised(paths[0])
    kind = interchange.load(name).FORMAT
    if not kind.reads:
        raise UserError(f"{kind.title} can only be written; choose another form to import")
    if kind.holds == "experts":
        if lr is not None:
            raise UserError("--lr is the learning rate of a set; leave it out for experts")
        return _experts(run, paths)
    if len(paths) > 1:
        raise UserError("one set at a time is imported; name one file or folder")
    return _set(run, interchange.read(paths[0], name), lr)


def _experts(run: Run, paths: Sequence[Path]) -> str:
    """Import experts; the settings say which dataset and which network they were trained on."""
    from attcli.interchange import released_experts

    files = released_experts.files_of(paths)
    with run.publishing():
        data = _dataset(run)
        layout = inputs.layout_of(run, data)
        network = identity.network(run.settings)
        words = ", ".join(f"{key} {value}" for key, value in network.items())
        found = [(file, released_experts.read_experts(file, layout, words)) for file in files]
        digests = [tensors.digest(file) for file in files]
        name = released_experts.digest_of(digests)
        settings = _with_experts(run.settings, name)
        asked = identity.buffer(settings, data.sha256)
        for file in experts.present(run.experts):
            if not may_write(run, file, experts.KIND, MAKER, *asked):
                file.unlink()
        fingerprint, decisive = identity.buffer(identity.whole_experts(settings), data.sha256)
        about = {**data.about, "network": network, "layout": layout, "dataset_sha256": data.sha256}
        count, shortest = sum(len(rows) for _, rows in found), min(len(r) for _, rows in found for r in rows) - 1
        with run.working_at(run.work("buffer", fingerprint), "buffer") as folder, track("experts", count) as progress:
            index = 0
            for (file, trajectories), digest in zip(found, digests, strict=True):
                origin = {"file": one_line(file.name), "sha256": digest.hex()}
                header = artefact.Header(
                    experts.KIND, fingerprint, decisive, {**about, "imported": origin}, runtime.versions()
                )
                for rows in trajectories:
                    unknown = [float("nan")] * (len(rows) - 1)
                    target = experts.path(folder, index)
                    experts.write(target, header, experts.Trajectory(rows, unknown, unknown))
                    if settings.buffer.waypoints is None:
                        publish(target, experts.path(run.experts, index))
                    else:
                        compacting.compact(target, experts.path(run.experts, index), asked)
                    index += 1
                    progress.advance(file.name)
    what = f"{network['arch']} on {data.about['dataset']}"
    logger.info("{} holds {} imported experts of {} epochs ({})", run.experts, count, shortest, what)
    waypoints = settings.buffer.waypoints
    kept_as = "" if waypoints is None else f" --set buffer.waypoints={waypoints}"
    return f"distil from them with --experts {count} --set buffer.imported={name}{kept_as}"


def _with_experts(settings: Settings, name: str) -> Settings:
    return settings.model_copy(update={"buffer": settings.buffer.model_copy(update={"imported": name})})


def _dataset(run: Run) -> dataset.Dataset:
    """The dataset that the settings ask for, made now if it is missing and may be made."""
    if run.auto:
        prepare_stage.run(run)
    return inputs.read_dataset(run)


def _set(run: Run, content: Plain | Whole, lr: float | None) -> str:
    """Import a set: one that says nothing of itself is one for the dataset and the network of the settings."""
    with run.publishing():
        if isinstance(content, Plain) and content.header is None:
            data = _dataset(run)
            content = packing.whole_of(content, _facts(run, data), data.normaliser, lr)
        elif lr is not None:
            raise UserError("the set says its learning rate itself; leave --lr out")
        if isinstance(content, Plain):
            assert content.header is not None
            content = packing.whole_of(content, packing.kept_facts(content.header), content.normaliser, None)
        _place(run, content)
    about = content.header.about
    logger.info("{} holds {} images for {}", run.synthetic, states.count_of(about), about["dataset"])
    return "score it with attcli evaluate"


def _facts(run: Run, data: dataset.Dataset) -> dict[str, Any]:
    """What the settings and the dataset say of a set that says nothing of itself."""
    return {
        **data.about,
        "dataset_sha256": data.sha256,
        "network": identity.network(run.settings),
        "protocol": identity.protocol(run.settings),
        "prepare": identity.prepare(run.settings)[1],
    }


def _place(run: Run, whole: Whole) -> None:
    """Put a set among the results. UserError where another one is there, or parts of one, that may not go."""
    header = whole.header
    distilled = packing.decoded(
        whole, run.synthetic
    )  # refuses what is not what it should be before anything is written
    if may_write(run, run.synthetic, synthetic.KIND, MAKER, header.fingerprint, header.settings):
        kept = artefact.header(run.synthetic, synthetic.KIND, MAKER).sha256
        if kept != header.sha256 and not run.force:
            raise UserError(f"{run.synthetic} is from another iteration of the same distillation; {OTHERWISE}")
    _clear(run, header)
    artefact.write(run.synthetic, header, whole.arrays)
    if whole.normaliser is not None:
        normaliser.write(run.normaliser, header.about, header.versions, whole.normaliser)
        images = next(reversed(distilled.variants.values()))
        draw_grid(run.grid, whole.normaliser.inverse(images.float()), len(header.about["classes"]))


def _clear(run: Run, header: artefact.Header) -> None:
    """Remove what belongs to another set. UserError where it may not go. What was distilled here stays in its work."""
    another = bool(scores_are_of(run) - {header.fingerprint})
    if run.synthetic.exists():
        try:
            another |= artefact.header(run.synthetic, synthetic.KIND, MAKER).sha256 != header.sha256
        except DamagedError:  # which may go, as `_place` has found
            another = True
    others = [(file, states.KIND) for file in states.snapshots(run.snapshots)]
    others += [(run.history, history.KIND)] if run.history.exists() else []
    for file, kind in others:
        if not may_write(run, file, kind, MAKER, header.fingerprint, header.settings):
            file.unlink()
            file.with_suffix(".csv").unlink(missing_ok=True)
    run.grid.unlink(missing_ok=True)
    if another:
        drop_scores(run)
