"""The facts of the images that are asked for: as their source describes them, or as what was prepared from them says.

The facts of a folder of one's own lie in its files. Where these are gone, as on another machine, dataset.h5 among the
results stands for them.
"""

from functools import cache
from pathlib import Path

from loguru import logger

from attcli.data import sources
from attcli.data.sources import DatasetInfo
from attcli.errors import MissingError
from attcli.settings import Settings
from attcli.settings.checks import check_images
from attcli.store import dataset


def of(settings: Settings) -> DatasetInfo:
    """The facts. MissingError where neither the files nor a dataset prepared from such are there.

    UserError where the settings do not suit a prepared dataset, which could not be checked earlier. Whether it was made
    with just these settings is for its identity to say.
    """
    try:
        return sources.describe(settings.images)
    except MissingError as missing:
        prepared = settings.prepared
        info = _of_file(prepared, prepared.stat().st_mtime_ns, str(missing)) if prepared.exists() else None
        if info is None or info.name != settings.images.name:
            raise
        check_images(settings, info)
        return info


@cache
def _of_file(path: Path, changed: int, why: str) -> DatasetInfo:
    """The facts in a file that was last changed then; that it is read, and why, is said once."""
    info = dataset.facts(path)
    logger.info("{} stands for its image files ({})", path, why.partition(";")[0])
    return info
