"""A storage: numbers in steps of a hundredth, in two bytes each."""


class Rounded:
    """Hundredths as 16-bit integers."""

    def rounded(self, numbers):
        """The nearest hundredth."""
        return ((numbers * 100).round().clamp(-32000, 32000) / 100).to(numbers.dtype)

    def pack(self, numbers):
        """One array of hundredths."""
        return {"hundredths": (numbers * 100).round().clamp(-32000, 32000).short().numpy()}

    def unpack(self, packed):
        """The numbers."""
        import torch

        return torch.from_numpy(packed["hundredths"]).float() / 100


def make():
    """No options."""
    return Rounded()
