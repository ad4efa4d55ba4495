"""A parameterisation: images in other units, by an option."""

from pydantic import Field

from attcli.options import Section


class Options(Section):
    """The parameterisation's options."""

    unit: float = Field(4.0, gt=0, description="scaled: units of the learned numbers")


class Scaled:
    """One learned tensor, the images divided by the unit."""

    images_per_unit = 1
    needs_normaliser = False

    def __init__(self, scale):
        self.scale, self.limits = scale, {}

    def unit(self, channels, side):
        """An image."""
        return {"scaled": (channels, side, side)}

    def constant_bytes(self, side):
        """There are no constants."""
        return 0

    def encode(self, images, labels, space):
        """The images in these units."""
        from attcli.parameterisations import Coded

        return Coded({"scaled": images / self.scale})

    def decode(self, coded, space):
        """The images."""
        return coded.learned["scaled"] * self.scale

    def project(self, coded):
        """No limits."""
        return coded


def make(unit):
    """The parameterisation with its option."""
    return Scaled(unit)
