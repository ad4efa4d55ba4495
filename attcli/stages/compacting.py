"""Compact experts are made of whole ones, one after the other (`attcli.store.compact` has the formula)."""

from dataclasses import replace
from pathlib import Path

from loguru import logger
from rich.filesize import decimal

from attcli.errors import UserError
from attcli.progress import track
from attcli.stages import identity
from attcli.stages.run import Run, may_write
from attcli.store import experts

MAKER = "attcli experts compact"


def compact(source: Path, target: Path, made_by: identity.Identity, epochs: int | None = None) -> None:
    """Write the expert in a file compactly into another one: the whole of it, or its first epochs.

    made_by: the identity of compact experts, whose settings say how many waypoints they have.
    """
    header, trajectory = experts.read(source)
    fingerprint, decisive = made_by
    making = decisive["buffer"]
    assert isinstance(making, dict)
    header = replace(header, fingerprint=fingerprint, settings=decisive)
    experts.write_compact(target, header, trajectory.first(epochs or trajectory.epochs), making["waypoints"])


def run(run: Run, source: Path, waypoints: int) -> str:
    """Write the experts of a folder compactly among the results; returns what to do next, in a line.

    One expert at a time is read, row by row. UserError where the folder holds none, or compact ones, or where others
    are among the results.
    """
    files = experts.present(source)
    if not files:
        raise UserError(f"{source} holds no experts; run `{experts.MAKER}`, or name the folder that holds them")
    if source.resolve() == run.experts.resolve():
        raise UserError(f"{source} is where the compact experts would go; name another folder for them: --to DIR")
    before = after = 0
    epochs = {experts.epochs_of(file) for file in files}
    with run.publishing(), track("experts", len(files)) as progress:
        for file in files:
            target = run.experts / file.name
            may_write(run, target, experts.KIND, MAKER, *_identity(file, waypoints))
            compact(file, target, _identity(file, waypoints))
            before, after = before + file.stat().st_size, after + target.stat().st_size
            progress.advance(file.name)
    message = "{} holds {} compact experts: {} instead of {}, {:.1f} times smaller"
    logger.info(message, run.experts, len(files), decimal(after), decimal(before), before / after)
    flags = f"--experts {len(files)} --set buffer.waypoints={waypoints}"
    return f"distil from them with {flags}" + (f" --set buffer.epochs={epochs.pop()}" if len(epochs) == 1 else "")


def _identity(file: Path, waypoints: int) -> identity.Identity:
    """The identity of the compact form of an expert. UserError where it is compact already, or too short."""
    with experts.Experts([file]) as opened:
        header = opened.headers[0]
        if opened.compact:
            raise UserError(f"{file} is a compact expert already; name a folder of experts with all their epochs")
        if waypoints > opened.epochs + 1:
            raise UserError(
                f"--waypoints {waypoints} is more than the {opened.epochs + 1} networks of {file}; lower it"
            )
    return identity.compacted(header.settings, waypoints, header.about["dataset_sha256"])
