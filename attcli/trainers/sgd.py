"""Plain SGD: MTT's, TESLA's and ATT's experts."""

from attcli.trainers.training import Descent, along_the_gradient

OPTIONS: tuple[str, ...] = ()


def descent() -> Descent:
    """The loss's gradient."""
    return along_the_gradient
