"""A parameterisation: images in other units, by an option."""

from pydantic import Field

from attcli.options import Section


class Options(Section):
    """The parameterisation's options."""

    unit: float = Field(4.0, gt=0, description="scaled: units of the learned numbers")


class Scaled:
    """One learned tensor, the images divided by the unit."""

    def __init__(self, unit):
        self.unit = unit

    def images_per_class(self, ipc):
        """As many as are paid for."""
        return ipc

    def encode(self, images, labels):
        """The images in these units."""
        from attcli.parameterisations import Coded

        return Coded({"scaled": images / self.unit})

    def decode(self, coded):
        """The images."""
        return coded.learned["scaled"] * self.unit

    def project(self, coded):
        """No limits."""
        return coded


def make(unit):
    """The parameterisation with its option."""
    return Scaled(unit)
