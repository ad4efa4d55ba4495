"""An objective: trajectory matching, its loss and gradients doubled."""

from dataclasses import replace

from attcli.objectives.trajectory import TrajectoryMatching


class Doubled(TrajectoryMatching):
    """Twice the matching loss."""

    def slope(self, images, labels, lr, drawn, memory):
        """Twice the slope."""
        slope = super().slope(images, labels, lr, drawn, memory)
        return replace(slope, loss=2 * slope.loss, images=2 * slope.images, lr=2 * slope.lr)


def make(inputs):
    """The objective for these inputs."""
    return Doubled(inputs)
