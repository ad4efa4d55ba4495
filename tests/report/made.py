"""Data of reports that no small run gives: hostile names, many classes, published values."""

import torch

from attcli.data.normalise import Normaliser
from attcli.records.model import Score, Scores, Size
from attcli.records.published import beside
from attcli.report import pictures
from attcli.report.model import Facts, Pictures
from attcli.store.synthetic import SyntheticSet

HOSTILE = [
    '<script>document.title="taken"</script>',
    '"><img src=x onerror="document.title=1">',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{0}$ _{x}^",
    "\u202eright to left\u202c",
    "line\nbreak\x00\x1b[31m",
    "</title></style><b>",
    "名前",
    "w" * 300,
]


def decoded(classes: int, per_class: int, side: int, channels: int = 3, soft: bool = False) -> SyntheticSet:
    """A set of random images, which no PNG makes smaller."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(classes * per_class, channels, side, side, generator=generator)
    hard = torch.arange(classes).repeat_interleave(per_class)
    labels = torch.nn.functional.one_hot(hard, classes).float() * 6 if soft else hard
    mean, std = torch.full((channels,), 0.5).numpy(), torch.full((channels,), 0.25).numpy()
    about = {"classes": [f"class {label}" for label in range(classes)], "channels": channels, "resolution": side}
    variants = {"synthetic": images, "ema": images * 0.5}
    normaliser = Normaliser("standardise", mean, std=std)
    return SyntheticSet(about, {}, variants, labels, 0.01, "0" * 64, normaliser, {"synthetic": 4 * images.numel()})


def with_pictures(facts: Facts, made: Pictures, classes: list[str], side: int) -> Facts:
    """The data with other images and classes."""
    about = facts.about.model_copy(update={"classes": classes, "side": side, "channels": 3})
    size = Size(classes=len(classes), images_per_class=made.per_class, bytes_per_class=1e4, float32_ipc=1.0)
    return facts.model_copy(update={"about": about, "pictures": made, "size": size, "per_class": {}})


def many(facts: Facts, classes: int, per_class: int, side: int) -> Facts:
    """The data of a set with so many classes."""
    made = decoded(classes, per_class, side)
    return with_pictures(facts, pictures.of_set(made), made.about["classes"], side)


def hostile(facts: Facts) -> Facts:
    """The data with all names that come from files replaced by texts that try to get out of their place."""
    first = HOSTILE[0]
    score = Score(mean=50.0, sd=1.0, n=2, accuracies=[49.0, 51.0])
    scores = {HOSTILE[1]: Scores(last={"synthetic": score, HOSTILE[4]: score}), HOSTILE[4]: Scores(last={"ema": score})}
    about = facts.about.model_copy(
        update={"dataset": first, "method": HOSTILE[1], "classes": HOSTILE, "arch": HOSTILE[4]}
    )
    settings = [
        entry.model_copy(update={"value": HOSTILE[position % len(HOSTILE)], "origin": HOSTILE[1]})
        for position, entry in enumerate(facts.settings)
    ]
    machine = facts.machine.model_copy(update={"cpu": first, "gpu": HOSTILE[2]})
    return facts.model_copy(
        update={
            "name": HOSTILE[7],
            "about": about,
            "scores": scores,
            "settings": settings,
            "machine": machine,
            "commands": HOSTILE,
            "missing": HOSTILE,
            "protocol": {"name": first, "epochs": "<i>many</i>", "lr": None},
        }
    )


def published(facts: Facts) -> Facts:
    """The data with the published values of ATT and FreD on CIFAR-10."""
    return facts.model_copy(update={"published": beside("att", "frequency", "float32", "cifar10", 1)})
