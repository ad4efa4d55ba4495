"""Random images of each class, kept as the set is kept: in its parameterisation and storage, and in as many bytes.

What a distilled set of few bits or small cells gains by matching is what it has over these. For pixels in float32 they
are random images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attcli.baselines import Baseline, Budget
from attcli.baselines.random import select

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.data.inputs import Inputs


def per_class(budget: Budget) -> int:
    """As many images as the set has."""
    return budget.images


def kept(images: Inputs, labels: Tensor, budget: Budget) -> tuple[Tensor, Tensor]:
    """The images as they come back from the set's own parameterisation and storage."""
    import torch

    coded = budget.coding.encode(images[torch.arange(len(images))], labels)
    return budget.coding.images(coded, budget.coding.fit(coded.learned)), labels


BASELINE = Baseline(select, per_class=per_class, kept=kept)
