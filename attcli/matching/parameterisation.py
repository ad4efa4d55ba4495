"""How learned numbers become images: the one place where the optimiser, the engine and the moving average meet.

The optimiser updates, and the moving average averages, the learned numbers; the engine sees the images decoded from
them, once an outer iteration, and its image gradient is pulled back to the numbers.
"""

from torch import Tensor


class Pixels:
    """The learned numbers are the images themselves."""

    def images(self, learned: Tensor) -> Tensor:
        """The images (n, C, H, W) that the learned numbers stand for."""
        return learned

    def pull_back(self, learned: Tensor, gradient: Tensor) -> Tensor:
        """The gradient in the learned numbers of a loss with this gradient (n, C, H, W) in the images."""
        return gradient
