"""export: a set or the experts among the results are written in the form of another program."""

from pathlib import Path

from loguru import logger

from attcli import interchange
from attcli.errors import UserError
from attcli.interchange import packing, released_experts
from attcli.options import VARIANTS
from attcli.progress import track
from attcli.store import experts
from attcli.store.files import writable


def run(source: Path, form: str, folder: Path, variant: str | None = None, *, force: bool = False) -> list[Path]:
    """Write the set in a file (or its snapshot), or the experts of a folder, in that form; returns what was written.

    What the form has no place for is said in a line before anything is written. UserError where files are there
    already, unless `force`.
    """
    module = interchange.load(form)
    if not module.FORMAT.writes:
        raise UserError(f"{module.FORMAT.title} can only be read; choose one of {', '.join(_writable())}")
    if variant not in (None, *VARIANTS):
        raise UserError(f"--variant {variant}: choose {' or '.join(VARIANTS)}")
    writable(folder, "--out")
    if module.FORMAT.holds == "experts":
        if variant is not None:
            raise UserError("--variant is of a set; leave it out for experts")
        return _experts(source, folder, force)
    whole = packing.whole_in(source)
    chosen = variant or VARIANTS[0]
    if not packing.has(whole, chosen):
        raise UserError(f"{source} has no images called {chosen}; leave --variant out")
    files: list[Path] = module.files(folder, whole)
    interchange.about_to_write(files, force)
    if lost := module.losses(whole, chosen):
        logger.warning("{} has no place for {}", form, "; ".join(lost))
    earlier = module.earlier(folder) if hasattr(module, "earlier") else []
    for file in [*files, *earlier] if force else []:  # what was cut short must never be read as a mixture of two sets
        file.unlink(missing_ok=True)
    module.write(folder, whole, chosen)
    return [file for file in files if file.exists()]


def _writable() -> tuple[str, ...]:
    return interchange.names(writes=True)


def _experts(source: Path, folder: Path, force: bool) -> list[Path]:
    """The experts of a folder, as the released codes keep them."""
    files = experts.present(source)
    if not files:
        raise UserError(f"{source} holds no experts; run `{experts.MAKER}`, or name the folder that holds them")
    opened = experts.Experts(files)
    try:
        if opened.compact:
            raise UserError(
                f"{source} holds compact experts, and released-experts needs the network of every epoch; export the "
                f"experts that they were made of"
            )
        groups = [(folder / name, indices) for name, indices in released_experts.grouped(opened.abouts)]
        paths = [path for path, _ in groups]
        interchange.about_to_write(paths, force)
        if others := sorted(set(released_experts.buffers_in(folder)) - set(paths)):
            logger.warning("{} is there already, and programs will read its experts along with these", others[0])
        for path in paths:  # what is cut short must not be read together with what was there before
            path.unlink(missing_ok=True)
        logger.warning("released-experts has no place for the network's name, the dataset, losses and settings")
        with track("experts", len(opened)) as progress:
            for path, indices in groups:
                released_experts.write_experts(path, opened, indices)
                for _ in indices:
                    progress.advance(path.name)
    finally:
        opened.close()
    return paths
