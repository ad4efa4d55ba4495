"""A compact expert: a few of its networks, and how far each tensor is on the way between them (MCT, CVPR 2025).

W_0 … W_{K-1}   the expert's networks after the epochs e_0 = 0 < … < e_{K-1} = E, its *waypoints*
s_l(t)          the position of tensor l after epoch t, counted in waypoints; for e_j <= t <= e_{j+1}
                s_l(t) = j + sum_{i = e_j + 1 .. t} |theta_l(i) - theta_l(i-1)| / the same sum up to e_{j+1}
theta_l(t)      (1 - a) W_j,l + a W_{j+1},l   with a = s_l(t) - j

At a real t, s_l is linear between the two whole epochs beside it. So the network after t lies on the straight line
from one waypoint to the next, each tensor as far as the expert had moved by then; a waypoint is exactly what it was.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Way:
    """waypoints: their epochs (K,); positions: s (E + 1, L); sizes: the numbers of each of the L parameter tensors."""

    waypoints: NDArray[np.int64]
    positions: NDArray[np.float64]
    sizes: tuple[int, ...]

    @property
    def epochs(self) -> int:
        """E."""
        return len(self.positions) - 1

    def row(self, epoch: float, waypoint: Callable[[int], Row]) -> Row:
        """The parameters (P,) after a whole or real number of epochs up to E; `waypoint` reads W_j."""
        before = min(int(epoch), self.epochs - 1)
        position = between(self.positions[before], self.positions[before + 1], epoch - before)
        first = int(np.searchsorted(self.waypoints, before, side="right")) - 1
        row, end = waypoint(first).copy(), waypoint(first + 1)
        for part, share in zip(parts(self.sizes), position - first, strict=True):
            row[part] = between(row[part], end[part], float(share))
        return row

    def problem(self) -> str | None:
        """What is wrong with numbers that were read; None where nothing is."""
        steps = np.diff(self.waypoints)
        if self.epochs < 1 or self.waypoints[0] != 0 or self.waypoints[-1] != self.epochs or (steps < 1).any():
            return "its waypoints are not epochs in their order"
        first = np.searchsorted(self.waypoints, np.arange(self.epochs), side="right") - 1
        low, high = self.positions[:-1] - first[:, None], self.positions[1:] - first[:, None]
        if not ((low >= 0) & (low <= high) & (high <= 1)).all():
            return "its positions are not on the way between its waypoints"
        return None


class Between(Sequence[Row]):
    """The rows of all epochs of a compact expert, from those of its waypoints."""

    def __init__(self, way: Way, waypoints: Sequence[Row]) -> None:
        self._way, self._waypoints = way, waypoints

    def __len__(self) -> int:
        return self._way.epochs + 1

    def __getitem__(self, index: Any) -> Any:
        return self._way.row(range(len(self))[index], self._waypoints.__getitem__)


def between(a: Row, b: Row, share: float) -> Row:
    """The point at a share of the way from a to b; exactly a at 0 and exactly b at 1."""
    mixed: Row = (1 - share) * a + share * b
    return mixed


def parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Where each parameter tensor lies in a row."""
    return (slice(begin, end) for begin, end in pairwise(accumulate(sizes, initial=0)))


def waypoints_of(epochs: int, count: int) -> NDArray[np.int64]:
    """The epochs of `count` waypoints, as evenly spread as whole epochs allow: 0, 17, 34 and 50 for 4 of 50 epochs."""
    return np.array([-(-j * epochs // (count - 1)) for j in range(count)], np.int64)


def way_of(rows: Sequence[Row], sizes: Sequence[int], count: int) -> Way:
    """The way of an expert with these rows (P,), from initialisation on. Each row is read once, and two are held.

    A tensor that stays where it is between two waypoints is taken to move evenly. ValueError for too many waypoints.
    """
    epochs = len(rows) - 1
    if not 2 <= count <= epochs + 1:
        raise ValueError(f"{epochs} epochs have no {count} waypoints")
    moved = np.zeros((epochs, len(sizes)))
    before = rows[0]
    for epoch in range(epochs):
        after = rows[epoch + 1]
        moved[epoch] = [np.linalg.norm((after[part] - before[part]).astype(float)) for part in parts(sizes)]
        before = after
    waypoints = waypoints_of(epochs, count)
    positions = np.zeros((epochs + 1, len(sizes)))
    for j, (begin, end) in enumerate(pairwise(waypoints)):
        stretch = moved[begin:end]
        stretch = np.where(stretch.sum(axis=0) > 0, stretch, 1.0)
        way = stretch.cumsum(axis=0)
        positions[begin + 1 : end + 1] = j + way / way[-1]
    return Way(waypoints, positions, tuple(sizes))
