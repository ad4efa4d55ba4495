"""Plain SGD: MTT's, TESLA's and ATT's experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attcli.trainers.training import Descent


def descent() -> Descent:
    """The loss's gradient."""
    from attcli.trainers.training import along_the_gradient

    return along_the_gradient
