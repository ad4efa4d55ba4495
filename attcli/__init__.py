"""Dataset distillation by matching training trajectories. `attcli.load` reads a distilled set.

Importing the package takes no time; what is named here is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attcli.errors import UserError

if TYPE_CHECKING:
    from attcli.api import DistilledSet, buffer, distill, evaluate, load, prepare, resolve

__version__ = "0.1.0"
__all__ = ["DistilledSet", "UserError", "buffer", "distill", "evaluate", "load", "prepare", "resolve"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("attcli.api"), name)
    raise AttributeError(f"module 'attcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
