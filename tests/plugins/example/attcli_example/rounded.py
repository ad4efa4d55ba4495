"""A storage: numbers in steps of a hundredth, in two bytes each."""

from math import prod


class Rounded:
    """Hundredths as 16-bit integers."""

    def bits(self, shape):
        """Sixteen per number."""
        return 16 * prod(shape)

    def size(self, shape):
        """Two bytes per number."""
        return 2 * prod(shape)

    def fit(self, numbers, limits):
        """No scales."""
        return {}

    def refits(self, iteration):
        """Never."""
        return False

    def rounded(self, numbers, scales):
        """The nearest hundredth."""
        return ((numbers * 100).round().clamp(-32000, 32000) / 100).to(numbers.dtype)

    def beyond(self, numbers, scales):
        """Those that are not between -320 and 320."""
        return (numbers > 320).int() - (numbers < -320).int()

    def pack(self, numbers, scales):
        """One array of hundredths."""
        return {"hundredths": (numbers * 100).round().clamp(-32000, 32000).short().numpy()}

    def scales_of(self, packed, shape):
        """No scales."""
        return {}

    def unpack(self, packed, shape):
        """The numbers."""
        import torch

        if packed["hundredths"].shape != shape:
            raise ValueError("its learned numbers have another shape than it says")
        return torch.from_numpy(packed["hundredths"]).float() / 100


def make():
    """No options."""
    return Rounded()
