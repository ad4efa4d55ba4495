"""What a command says at its beginning in a container: what it will take, where results go, and whether they stay."""

from pathlib import Path
from typing import TYPE_CHECKING

from attcli import container
from attcli.errors import UserError

if TYPE_CHECKING:
    from attcli.stages.forecast import Target
    from attcli.stages.run import Run

VOLUME = 'docker run -v "$PWD/results:{folder}"'


def announce(run: "Run", name: str, target: "Target", whole: bool) -> None:
    """Log it, where this is a container. Elsewhere `--dry-run` says it when it is asked.

    whole: whether all stages are gone through, whatever exists.
    """
    inside = container.kind()
    if inside is None:
        return
    from loguru import logger

    from attcli.stages import forecast, plan
    from attcli.store.files import nearest_existing

    try:
        needed = forecast.needs(run, forecast.ORDER if whole else forecast.stages_of(run, name, target), target)
    except UserError:  # which the stage itself will tell, with what it has done until then kept
        needed = ""
    if needed:
        (logger.warning if plan.TOO_MUCH in needed else logger.info)("this takes {}", needed)
    folder = run.settings.runtime.artifacts.absolute()
    if container.vanishes(nearest_existing(folder)):
        volume = VOLUME.format(folder=Path.cwd() if folder.is_relative_to(Path.cwd()) else folder)
        logger.warning("results go to {} in {} and are lost with it; to keep them: {}", folder, inside, volume)
    else:
        logger.info("results go to {}, which is on a volume", folder)
