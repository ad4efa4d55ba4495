"""A way to train experts: SGD whose gradient is enlarged."""

from pydantic import Field

from attcli.options import Section


class Options(Section):
    """The trainer's options."""

    gain: float = Field(1.5, gt=0, description="noisy: factor of the gradient")


def descent(gain):
    """The enlarged gradient."""

    def along(step_functions, theta, x, p, w):
        g, logits = step_functions.gradient_and_logits(theta, x, p, w)
        return gain * g, logits

    return along
