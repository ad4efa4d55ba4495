"""A dataset's parts as rows that are read in pieces; what has to be decoded first is kept, block by block."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from attcli.data.sources import Files, Split
from attcli.errors import UserError
from attcli.progress import Track
from attcli.store.spool import Spool, in_pieces

A = TypeVar("A")
R = TypeVar("R")

PIECE_BYTES = 16 << 20
"""About so many bytes of images are decoded, kept and written at a time."""

TOLERATED = 0.01
"""The share of images that may be unreadable."""

SHOWN = 5


@dataclass(frozen=True)
class Rows:
    """The images of a part of a dataset, u8 of `shape` (N, C, H, W), and their labels i64 (N,)."""

    labels: NDArray[np.int64]
    shape: tuple[int, ...]
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    """The images with these places (B,), in rising order."""

    def pieces(self, size: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """All images in their order, `size` at a time, or about 16 MB of them."""
        for first, end in in_pieces(self.shape[0], size or images_of_a_piece(self.shape[1:])):
            yield self.read(np.arange(first, end))


def images_of_a_piece(shape: tuple[int, ...]) -> int:
    """How many images of this shape are taken at a time."""
    return max(1, PIECE_BYTES // int(np.prod(shape)))


def held(split: Split, index: NDArray[np.int64], shape: tuple[int, ...]) -> Rows:
    """The images of a split with these indices, as the split reads them."""
    return Rows(split.labels[index], (len(index), *shape), lambda places: split.read(index[places]))


def decode(files: Files, index: NDArray[np.int64], spool: Spool, shape: tuple[int, ...], progress: Track) -> None:
    """Decode the images with these indices into the spool, from where it stands.

    A block is kept while the next one is decoded.
    """
    blocks = (index[first:end] for first, end in in_pieces(len(index), images_of_a_piece(shape)) if first >= spool.rows)
    for decoded in _ahead(files.decode, blocks):
        spool.append(decoded.images, decoded.problems, decoded.animated)
        progress.advance()


def _ahead(function: Callable[[A], R], items: Iterable[A]) -> Iterator[R]:
    """function(item) for each item; the next two are computed while this one is used."""
    pool = ThreadPoolExecutor(2)
    coming: deque[Future[R]] = deque()
    try:
        for item in items:
            coming.append(pool.submit(function, item))
            if len(coming) > 2:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def of_spool(files: Files, index: NDArray[np.int64], spool: Spool, shape: tuple[int, ...]) -> Rows:
    """The images in a spool, without those that could not be read."""
    readable = np.setdiff1d(np.arange(len(index)), np.array(sorted(spool.problems), np.int64))
    return Rows(files.labels[index[readable]], (len(readable), *shape), lambda places: spool.read(readable[places]))


def check_problems(problems: list[str], total: int, allowed: bool) -> None:
    """UserError where more than 1 % of all images are unreadable, unless that is allowed; otherwise a warning."""
    if not problems:
        return
    shown = "; ".join(problems[:SHOWN]) + (f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else "")
    if len(problems) > TOLERATED * total and not allowed:
        raise UserError(
            f"{len(problems)} of {total} images cannot be read ({shown}); mend them, or leave them out with "
            f"--set prepare.allow_unreadable=true"
        )
    logger.warning("{} of {} images cannot be read and are left out: {}", len(problems), total, shown)
    for problem in problems[SHOWN:]:
        logger.debug("left out: {}", problem)
