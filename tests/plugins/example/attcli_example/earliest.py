"""A baseline: the first images of each class."""

from attcli.baselines import Baseline


def select(candidates, generator):
    """The indices of the first `per_class` images of each class, class by class; nothing is drawn."""
    import torch

    return torch.cat([members[: candidates.per_class] for members in candidates.members()])


BASELINE = Baseline(select)
