"""Matching methods: frozen records of small functions, one file each, found by their file's name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from torch import Tensor


@dataclass(frozen=True)
class Method:
    """Which span of an expert is matched (`window`) and with which of the student's steps (`select`).

    `window(minimum, maximum)` gives the range of start epochs; `select(distances, metric)` the step k in 1..N.
    """

    window: Callable[[int, int], tuple[int, int]]
    select: Callable[[Tensor, str], int]


def load(name: str) -> Method:
    """The method of that name; settings have made sure that there is one."""
    method: Method = import_module(f"attcli.methods.{name}").METHOD
    return method
